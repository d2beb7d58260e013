"""What a model is, from its metadata and the shapes and types of its tensors alone."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from toolkit.gguf.format import EMBEDDING, Metadata, ModelKeys, items
from toolkit.gguf.ggml_types import TensorType, mixture_name
from toolkit.gguf.rows import row_count
from toolkit.memory.kv_cache import MAX_LAYERS, KvCache, kv_cache
from toolkit.tokenizer.vocabulary import TOKENS

_GUESSED_FILE_TYPE = 1024
_TOKEN_ID = re.compile(r"tokenizer\.ggml\.(\w+?)_(?:token_)?id")


@dataclass(frozen=True)
class TensorSummary:
    """A tensor without its weights; shape with the row length last."""

    name: str
    shape: tuple[int, ...]
    type: str
    """GGUF's, or the method of a quantized checkpoint"""
    n_bytes: int
    """as it is stored"""


def summarize_tensor(name: str, shape: tuple[int, ...], type_: TensorType) -> TensorSummary:
    """Return the summary of a tensor of one of GGUF's types."""
    return TensorSummary(name, shape, type_.name, type_.tensor_bytes(shape))


@dataclass(frozen=True)
class Span:
    """The least and the most of a value that may differ from layer to layer."""

    least: int
    most: int

    def __str__(self) -> str:
        """Return `8`, or `3..4`."""
        return str(self.least) if self.least == self.most else f"{self.least}..{self.most}"


@dataclass(frozen=True)
class TypeShare:
    """All tensors of one type."""

    type: str
    tensors: int
    weights: int
    n_bytes: int


@dataclass(frozen=True)
class SpecialToken:
    """A token with a role; `text` is None where its id lies outside the vocabulary."""

    role: str
    id: int
    text: str | None


@dataclass(frozen=True)
class VocabularySummary:
    """The vocabulary and what belongs to it."""

    size: int | None
    model: str | None
    pre: str | None
    special_tokens: tuple[SpecialToken, ...]
    chat_template_length: int | None
    """characters; None where there is no template"""


@dataclass(frozen=True)
class ModelSummary:
    """What a person wants to know of a model; None where a file does not say."""

    architecture: str | None
    name: str | None
    kind: str | None
    """`general.type`: model, adapter, imatrix, mmproj"""
    file_type: str | None
    quantization_version: int | None
    parameters: int
    n_tensors: int
    tensor_bytes: int
    bits_per_weight: float
    types: tuple[TypeShare, ...]
    """most bytes first"""
    n_ctx_train: int | None
    embedding_length: int | None
    n_layer: int | None
    n_head: Span | None
    n_head_kv: Span | None
    n_expert: int | None
    n_expert_used: int | None
    kv_cache: KvCache | None
    vocabulary: VocabularySummary


def summarize(metadata: Metadata, tensors: Sequence[TensorSummary]) -> ModelSummary:
    """Return the summary of a model with this metadata and these tensors."""
    keys = ModelKeys(metadata)
    types = _types(tensors)
    parameters, n_bytes = sum(share.weights for share in types), sum(share.n_bytes for share in types)
    return ModelSummary(
        architecture=keys.architecture or None,
        name=keys.text("general.name"),
        kind=keys.text("general.type"),
        file_type=_file_type(keys),
        quantization_version=keys.number("general.quantization_version"),
        parameters=parameters,
        n_tensors=len(tensors),
        tensor_bytes=n_bytes,
        bits_per_weight=8 * n_bytes / parameters if parameters else 0.0,
        types=types,
        n_ctx_train=keys.integer("context_length"),
        embedding_length=keys.integer("embedding_length"),
        n_layer=keys.integer("block_count"),
        n_head=_span(keys, "attention.head_count"),
        n_head_kv=_span(keys, "attention.head_count_kv") or _span(keys, "attention.head_count"),
        n_expert=keys.integer("expert_count"),
        n_expert_used=keys.integer("expert_used_count"),
        kv_cache=kv_cache(keys),
        vocabulary=_vocabulary(keys, tensors),
    )


def _types(tensors: Iterable[TensorSummary]) -> tuple[TypeShare, ...]:
    grouped: dict[str, list[TensorSummary]] = {}
    for tensor in tensors:
        grouped.setdefault(tensor.type, []).append(tensor)
    shares = [
        TypeShare(
            type=name,
            tensors=len(group),
            weights=sum(math.prod(tensor.shape) for tensor in group),
            n_bytes=sum(tensor.n_bytes for tensor in group),
        )
        for name, group in grouped.items()
    ]
    return tuple(sorted(shares, key=lambda share: (-share.n_bytes, share.type)))


def _file_type(keys: ModelKeys) -> str | None:
    number = keys.number("general.file_type")
    if number is None:
        return None
    return mixture_name(number & ~_GUESSED_FILE_TYPE) or str(number)


def _span(keys: ModelKeys, suffix: str) -> Span | None:
    values = keys.each(suffix) or keys.per_layer(suffix, 1)
    return Span(min(values), max(values)) if values and len(values) <= MAX_LAYERS else None


def _vocabulary(keys: ModelKeys, tensors: Sequence[TensorSummary]) -> VocabularySummary:
    tokens = items(keys.metadata, TOKENS)
    template = keys.text("tokenizer.chat_template")
    return VocabularySummary(
        size=len(tokens) or keys.integer("vocab_size") or _embedding_rows(tensors),
        model=keys.text("tokenizer.ggml.model"),
        pre=keys.text("tokenizer.ggml.pre"),
        special_tokens=tuple(_special_tokens(keys, tokens)),
        chat_template_length=None if template is None else len(template),
    )


def _embedding_rows(tensors: Iterable[TensorSummary]) -> int | None:
    return next((row_count(tensor.shape) for tensor in tensors if tensor.name == EMBEDDING), None)


def _special_tokens(keys: ModelKeys, tokens: Sequence[object]) -> Iterable[SpecialToken]:
    for key in keys.metadata:
        match, number = _TOKEN_ID.fullmatch(key), keys.number(key)
        if match and number is not None:
            yield SpecialToken(match[1], number, str(tokens[number]) if 0 <= number < len(tokens) else None)
