"""OLMo 2: norms after attention and MLP instead of before, and over all heads of Q and of K."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import no_generated_tensors, no_metadata
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    ATTENTION_BIAS,
    DEFAULTS,
    GATED_MLP,
    POST_NORMS,
    PROJECTIONS,
    WIDE_NORMS,
)

OLMO2 = replace(
    LLAMA,
    name="olmo2",
    hf_classes=("Olmo2ForCausalLM",),
    compared=frozenset({"Olmo2ForCausalLM"}),
    model_types=("olmo2",),
    tensors=AROUND_THE_BLOCKS + PROJECTIONS + ATTENTION_BIAS + WIDE_NORMS + POST_NORMS + GATED_MLP,
    class_defaults=DEFAULTS | {"rms_norm_eps": 1e-5},
    metadata=no_metadata,
    generated_tensors=no_generated_tensors,
    rope_types=("default", "linear", "yarn"),
)

ARCHITECTURES = (OLMO2,)
