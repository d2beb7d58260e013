"""Dream: Qwen 2's block, where every token sees every other, and masked tokens are filled in step by step (diffusion)."""

from dataclasses import replace

from toolkit.architectures.families.qwen2 import QWEN2
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean, uint32


def _metadata(config: ModelConfig) -> Metadata:
    metadata: Metadata = {"attention.causal": boolean(False)}
    if config.has("mask_token_id"):
        metadata["tokenizer.ggml.mask_token_id"] = uint32(config.integer("mask_token_id", least=0))
    return metadata


DREAM = replace(
    QWEN2,
    name="dream",
    hf_classes=("DreamModel",),
    compared=frozenset({"DreamModel"}),
    model_types=("Dream",),
    metadata=_metadata,
)

ARCHITECTURES = (DREAM,)
