"""Mellum 2: Qwen 3 with experts, and windows where the config has them."""

from dataclasses import replace

from toolkit.architectures.families.qwen3_moe import QWEN3_MOE
from toolkit.architectures.parts.base import no_metadata
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.experts import expert_widths
from toolkit.architectures.parts.windows import window_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata


def _metadata(config: ModelConfig) -> Metadata:
    windows = window_metadata if config.flag("use_sliding_window", True) else no_metadata
    return expert_widths(config) | windows(config)


MELLUM = replace(
    QWEN3_MOE,
    name="mellum",
    hf_classes=("MellumForCausalLM",),
    compared=frozenset({"MellumForCausalLM"}),
    model_types=("mellum",),
    metadata=_metadata,
    check=silu,
    vocabularies=("bpe",),
    pools=False,
)

ARCHITECTURES = (MELLUM,)
