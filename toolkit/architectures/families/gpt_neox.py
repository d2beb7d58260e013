"""GPT-NeoX (Pythia): QKV interleaved by head, LayerNorm, rope on a part of each head."""

from toolkit.architectures.parts.base import Architecture, Naming, biases, block, rule
from toolkit.architectures.parts.checks import gelu
from toolkit.architectures.parts.llama_block import COMPUTED_BUFFERS
from toolkit.architectures.parts.rope import residual_metadata
from toolkit.architectures.parts.transforms import heads_apart

WEIGHTS = (
    rule("model.final_layer_norm", "output_norm", "embd"),
    block("input_layernorm", "attn_norm", "embd"),
    block("attention.query_key_value", "attn_qkv", "3*q", "embd", transform=heads_apart),
    block("attention.dense", "attn_output", "embd", "q"),
    block("post_attention_layernorm", "ffn_norm", "embd"),
    block("mlp.dense_h_to_4h", "ffn_up", "ff", "embd"),
    block("mlp.dense_4h_to_h", "ffn_down", "embd", "ff"),
)


GPT_NEOX = Architecture(
    name="gptneox",
    hf_classes=("GPTNeoXForCausalLM",),
    compared=frozenset({"GPTNeoXForCausalLM"}),
    model_types=("gpt_neox",),
    tensors=(
        rule("model.embed_in", "token_embd", "vocab", "embd"),
        rule("embed_out", "output", "vocab", "embd"),
        *WEIGHTS,
        *biases(WEIGHTS),
    ),
    class_defaults={
        "intermediate_size": 24576,
        "num_attention_heads": 64,
        "max_position_embeddings": 2048,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25,
        "use_parallel_residual": True,
        "tie_word_embeddings": False,
    },
    metadata=residual_metadata,
    unwritten=frozenset({"rope", "attention.head_count_kv"}),
    norm="layer_norm_eps",
    check=gelu,
    rope_types=("default",),
    naming=Naming(embedding="embed_in", output="embed_out"),
    dropped=COMPUTED_BUFFERS,
)

ARCHITECTURES = (GPT_NEOX,)
