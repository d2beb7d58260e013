"""StableLM 1 and 2: Llama's block with LayerNorm and rope on a part of each head."""

from toolkit.architectures.parts.base import Architecture, biases
from toolkit.architectures.parts.checks import all_of, setting, silu
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    ATTENTION,
    COMPUTED_BUFFERS,
    GATED_MLP,
    NORMS,
    OUTPUT_NORM,
    QKV,
)
from toolkit.architectures.parts.rope import residual_metadata

STABLELM = Architecture(
    name="stablelm",
    hf_classes=("StableLmForCausalLM", "StableLMEpochForCausalLM"),
    compared=frozenset({"StableLmForCausalLM"}),
    model_types=("stablelm", "stablelm_epoch"),
    tensors=AROUND_THE_BLOCKS + ATTENTION + biases((OUTPUT_NORM, *NORMS)) + biases(QKV, "use_qkv_bias") + GATED_MLP,
    class_defaults={
        "intermediate_size": 6912,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "layer_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25,
        "use_parallel_residual": False,
        "tie_word_embeddings": False,
    },
    metadata=residual_metadata,
    unwritten=frozenset({"rope"}),
    norm="layer_norm_eps",
    check=all_of(silu, setting("qk_layernorm", False)),
    rope_types=("default",),
    dropped=COMPUTED_BUFFERS,
)

ARCHITECTURES = (STABLELM,)
