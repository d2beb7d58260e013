"""Recognize a reranker made of Qwen 3 by its model card, as llama.cpp's converter does, and convert it to one.

Source: Qwen3Model in conversion/qwen.py of llama.cpp (commit 0c1e570).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from toolkit.architectures.parts.base import Architecture
from toolkit.architectures.parts.reranker import ANSWERS, RERANKABLE, as_reranker
from toolkit.errors import TokenizerError
from toolkit.gguf.format import Metadata, ValueType, array, items, string
from toolkit.sources.front_matter import card_text
from toolkit.tokenizer.vocabulary import TOKENS

_NAME = r"qwen3-(?:vl-)?reranker"
_HEADING = re.compile(rf"^# {_NAME}", re.IGNORECASE | re.MULTILINE)
"""the title of a card; those of other models name rerankers further down"""
_TEMPLATE = (
    "<|im_start|>system\n"
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
    "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
    "<Query>: {query}\n"
    "<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n"
    "<think>\n\n</think>\n\n"
)
"""what llama.cpp's server fills in; the words are those that the model was trained with"""


@dataclass(frozen=True)
class Role:
    """What a checkpoint is for: the architecture for that, what it adds to the vocabulary's metadata, and warnings."""

    architecture: Architecture
    metadata: Metadata
    warnings: tuple[str, ...] = ()


def role_of(directory: Path, architecture: Architecture, vocabulary: Metadata) -> Role:
    """Return the role of a checkpoint: to write or embed as its class does, or to rerank if its card says so.

    Raises TokenizerError if a reranker's vocabulary lacks one of its answers.
    """
    if architecture.name not in RERANKABLE or not _says_reranker(directory):
        return Role(architecture, {})
    tokens = items(vocabulary, TOKENS)
    missing = [answer for answer in ANSWERS if answer not in tokens]
    if missing:
        raise TokenizerError(
            f"the model card says that this is a reranker, but its vocabulary has no token {missing[0]!r}"
        )
    yes, no = (tokens.index(answer) for answer in ANSWERS)
    templates: Metadata = {
        "tokenizer.chat_templates": array(ValueType.STRING, ("rerank",)),
        "tokenizer.chat_template.rerank": string(_TEMPLATE),
    }
    warning = "a reranker, as its name or model card says: the file scores documents and writes no text"
    return Role(as_reranker(architecture, (yes, no)), templates, (warning,))


def _says_reranker(directory: Path) -> bool:
    if re.search(_NAME, directory.name, re.IGNORECASE):
        return True
    return _HEADING.search(card_text(directory)) is not None
