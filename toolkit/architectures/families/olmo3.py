"""OLMo 3: OLMo 2 with a window on three of four layers; llama.cpp runs it as `olmo2`."""

from dataclasses import replace

from toolkit.architectures.families.olmo2 import OLMO2
from toolkit.architectures.parts.windows import window_metadata

OLMO3 = replace(
    OLMO2,
    hf_classes=("Olmo3ForCausalLM",),
    compared=frozenset({"Olmo3ForCausalLM"}),
    model_types=("olmo3",),
    class_defaults=OLMO2.class_defaults | {"sliding_window": 4096},
    metadata=window_metadata,
)

ARCHITECTURES = (OLMO3,)
