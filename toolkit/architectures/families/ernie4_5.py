"""ERNIE 4.5: Llama whose rope rotates neighbours in the checkpoint already."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import biases, no_generated_tensors, no_metadata
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, DEFAULTS, GATED_MLP, PROJECTIONS

ERNIE_DEFAULTS = DEFAULTS | {
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
}

ERNIE4_5 = replace(
    LLAMA,
    name="ernie4_5",
    hf_classes=("Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"),
    compared=frozenset({"Ernie4_5ForCausalLM"}),
    model_types=("ernie4_5",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + biases(PROJECTIONS, "use_bias") + GATED_MLP,
    class_defaults=ERNIE_DEFAULTS | {"head_dim": 128, "num_key_value_heads": 2},
    metadata=no_metadata,
    generated_tensors=no_generated_tensors,
    rope_types=("default",),
)

PADDLEOCR = replace(
    ERNIE4_5,
    name="paddleocr",
    hf_classes=("PaddleOCRVLForConditionalGeneration",),
    compared=frozenset({"PaddleOCRVLForConditionalGeneration"}),
    model_types=("paddleocr_vl",),
    rope_types=("default", "mrope"),
)
"""The text model of PaddleOCR-VL: rope in sections, for which llama.cpp rotates halves as the checkpoint does."""

ARCHITECTURES = (ERNIE4_5, PADDLEOCR)
