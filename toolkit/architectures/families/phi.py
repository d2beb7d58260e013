"""Phi 1 and 2: attention and MLP side by side behind one norm, biases everywhere, rope on a part of each head."""

from toolkit.architectures.parts.base import Architecture, biases, block, rule
from toolkit.architectures.parts.checks import all_of, gelu, setting
from toolkit.architectures.parts.llama_block import COMPUTED_BUFFERS, DERIVED, QKV, TOKEN_EMBD
from toolkit.architectures.parts.rope import rotary_metadata
from toolkit.gguf.format import boolean

WEIGHTS = (
    rule("model.final_layernorm", "output_norm", "embd"),
    rule("lm_head", "output", "vocab", "embd"),
    block("input_layernorm", "attn_norm", "embd"),
    *QKV,
    block("self_attn.dense", "attn_output", "embd", "q"),
    block("mlp.fc1", "ffn_up", "ff", "embd"),
    block("mlp.fc2", "ffn_down", "embd", "ff"),
)


PHI2 = Architecture(
    name="phi2",
    hf_classes=("PhiForCausalLM",),
    compared=frozenset({"PhiForCausalLM"}),
    model_types=("phi",),
    tensors=(TOKEN_EMBD, *WEIGHTS, *biases(WEIGHTS)),
    class_defaults={
        "hidden_act": "gelu_new",
        "max_position_embeddings": 2048,
        "layer_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "tie_word_embeddings": False,
    },
    derived=DERIVED | {"intermediate_size": lambda config: 4 * config.integer("hidden_size")},
    metadata=lambda config: rotary_metadata(config) | {"tokenizer.ggml.add_bos_token": boolean(False)},
    unwritten=frozenset({"rope"}),
    norm="layer_norm_eps",
    check=all_of(gelu, setting("qk_layernorm", False), setting("tie_word_embeddings", False)),
    rope_types=("default",),
    dropped=COMPUTED_BUFFERS,
)

ARCHITECTURES = (PHI2,)
