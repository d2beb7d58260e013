"""BLOOM: ALiBi instead of positions, a norm after the embedding, QKV interleaved by head."""

from functools import partial

from toolkit.architectures.parts.base import Architecture, Naming, biases, block, rule, same_as
from toolkit.architectures.parts.checks import setting
from toolkit.architectures.parts.llama_block import DERIVED, OUTPUT
from toolkit.architectures.parts.transforms import heads_apart

_h = partial(block, within="h")
WEIGHTS = (
    rule("model.word_embeddings_layernorm", "token_embd_norm", "embd"),
    rule("model.ln_f", "output_norm", "embd"),
    _h("input_layernorm", "attn_norm", "embd"),
    _h("self_attention.query_key_value", "attn_qkv", "3*embd", "embd", transform=heads_apart),
    _h("self_attention.dense", "attn_output", "embd", "embd"),
    _h("post_attention_layernorm", "ffn_norm", "embd"),
    _h("mlp.dense_h_to_4h", "ffn_up", "4*embd", "embd"),
    _h("mlp.dense_4h_to_h", "ffn_down", "embd", "4*embd"),
)

BLOOM = Architecture(
    name="bloom",
    hf_classes=("BloomForCausalLM", "BloomModel"),
    compared=frozenset({"BloomForCausalLM"}),
    model_types=("bloom",),
    tensors=(rule("model.word_embeddings", "token_embd", "vocab", "embd"), OUTPUT, *WEIGHTS, *biases(WEIGHTS)),
    class_defaults={
        "layer_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    },
    derived=DERIVED
    | {
        "intermediate_size": lambda config: 4 * config.integer("hidden_size"),
        "max_position_embeddings": same_as("hidden_size"),
    },
    unwritten=frozenset({"rope"}),
    norm="layer_norm_eps",
    check=setting("apply_residual_connection_post_layernorm", False),
    naming=Naming(embedding="word_embeddings", blocks="h"),
)

ARCHITECTURES = (BLOOM,)
