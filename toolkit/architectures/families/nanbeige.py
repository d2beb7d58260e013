"""Nanbeige 4.2: Llama whose blocks are run several times over."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.llama_block import DEFAULTS, llama_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean, uint32


def _metadata(config: ModelConfig) -> Metadata:
    return llama_metadata(config) | {
        "num_loops": uint32(config.integer("num_loops")),
        "skip_loop_final_norm": boolean(config.flag("skip_loop_final_norm")),
    }


NANBEIGE = replace(
    LLAMA,
    name="nanbeige",
    hf_classes=("NanbeigeForCausalLM",),
    compared=frozenset({"NanbeigeForCausalLM"}),
    model_types=("nanbeige",),
    class_defaults=DEFAULTS | {"num_loops": 1, "skip_loop_final_norm": False},
    metadata=_metadata,
)

ARCHITECTURES = (NANBEIGE,)
