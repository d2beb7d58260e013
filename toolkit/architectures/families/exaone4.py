"""EXAONE 4: norms after attention and MLP, norms on the heads of Q and K; the large one has windowed layers."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    DEFAULTS,
    GATED_MLP,
    HEAD_NORMS,
    POST_NORMS,
    PROJECTIONS,
)
from toolkit.architectures.parts.windows import window_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32


def exaone_metadata(config: ModelConfig) -> Metadata:
    """Return the vocabulary's size and the windows."""
    return {"vocab_size": uint32(config.integer("vocab_size"))} | window_metadata(config)


EXAONE4 = replace(
    LLAMA,
    name="exaone4",
    hf_classes=("Exaone4ForCausalLM",),
    compared=frozenset({"Exaone4ForCausalLM"}),
    model_types=("exaone4",),
    tensors=AROUND_THE_BLOCKS + PROJECTIONS + HEAD_NORMS + POST_NORMS + GATED_MLP,
    class_defaults=DEFAULTS | {"num_key_value_heads": 32, "rms_norm_eps": 1e-5},
    metadata=exaone_metadata,
)

ARCHITECTURES = (EXAONE4,)
