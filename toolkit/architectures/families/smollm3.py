"""SmolLM 3: Llama with every fourth layer free of rope, a pattern that llama.cpp has built in."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.checks import check_rope_pattern
from toolkit.architectures.parts.llama_block import DEFAULTS, llama_metadata

SMOLLM3 = replace(
    LLAMA,
    name="smollm3",
    hf_classes=("SmolLM3ForCausalLM",),
    compared=frozenset({"SmolLM3ForCausalLM"}),
    model_types=("smollm3",),
    metadata=llama_metadata,
    class_defaults=DEFAULTS
    | {
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rope_theta": 2000000.0,
        "tie_word_embeddings": True,
    },
    check=check_rope_pattern,
)

ARCHITECTURES = (SMOLLM3,)
