"""Qwen 3's rerankers: of the output only the rows of two answers count, yes and no, whose softmax is the score.

Their class is that of any Qwen 3. What they are stands in their model card alone.
"""

from dataclasses import replace

import numpy

from toolkit.architectures.parts.base import Architecture, rule, without
from toolkit.architectures.parts.llama_block import untied
from toolkit.architectures.parts.transforms import regrouped
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, ValueType, array, uint32
from toolkit.gguf.rows import RowSource

RERANKABLE = ("qwen3", "qwen3vl")
"""the architectures to whose scores llama.cpp applies softmax"""
ANSWERS = ("yes", "no")
_RANK = uint32(4)


def _tied(config: ModelConfig) -> bool:
    return not untied(config)


def as_reranker(architecture: Architecture, answers: tuple[int, int]) -> Architecture:
    """Return the architecture that scores instead of writing; `answers` are the tokens for yes and no."""

    def chosen(source: RowSource, _config: ModelConfig) -> RowSource:
        return regrouped(source, numpy.array(answers))

    def metadata(config: ModelConfig) -> Metadata:
        labels = array(ValueType.STRING, ANSWERS)
        return architecture.metadata(config) | {"pooling_type": _RANK, "classifier.output_labels": labels}

    scores = (
        replace(rule("lm_head", "cls.output", "vocab", "embd", transform=chosen), required=untied),
        replace(rule("model.embed_tokens", "cls.output", "vocab", "embd", transform=chosen), required=_tied),
    )
    return replace(architecture, tensors=without(architecture.tensors, "lm_head") + scores, metadata=metadata)
