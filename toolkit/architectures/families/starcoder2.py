"""StarCoder 2: LayerNorm, an MLP without gate, biases."""

from toolkit.architectures.parts.base import Architecture, biases, block
from toolkit.architectures.parts.checks import gelu
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    COMPUTED_BUFFERS,
    DEFAULTS,
    NORMS,
    OUTPUT_NORM,
    PROJECTIONS,
)

MLP = (block("mlp.c_fc", "ffn_up", "ff", "embd"), block("mlp.c_proj", "ffn_down", "embd", "ff"))

STARCODER2 = Architecture(
    name="starcoder2",
    hf_classes=("Starcoder2ForCausalLM",),
    compared=frozenset({"Starcoder2ForCausalLM"}),
    model_types=("starcoder2",),
    tensors=AROUND_THE_BLOCKS
    + NORMS
    + biases((OUTPUT_NORM, *NORMS))
    + PROJECTIONS
    + MLP
    + biases(PROJECTIONS + MLP, "use_bias"),
    class_defaults=DEFAULTS
    | {
        "num_key_value_heads": 2,
        "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": 4096,
        "layer_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "use_bias": True,
    },
    norm="layer_norm_eps",
    check=gelu,
    dropped=COMPUTED_BUFFERS,
)

ARCHITECTURES = (STARCODER2,)
