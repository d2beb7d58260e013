"""What a model holds, as text and as JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from toolkit.memory.kv_cache import KvCache
from toolkit.render.tables import table_lines
from toolkit.units import format_count, format_size
from toolkit.verbs.inspect import InspectResult
from toolkit.verbs.model_summary import ModelSummary, TensorSummary, TypeShare

_LABEL_WIDTH = 16


def inspect_lines(result: InspectResult, *, tensors: bool = False) -> list[str]:
    """Return labelled lines, the table of types, and that of tensors if it is asked for."""
    summary = result.summary
    lines = [f"{label:<{_LABEL_WIDTH}}{text}" for label, text in (*_file_texts(result), *_summary_texts(summary))]
    if summary.types:
        lines += ["", *_type_lines(summary)]
    return [*lines, "", *_tensor_lines(result.tensors)] if tensors else lines


def inspect_document(result: InspectResult, *, tensors: bool = False) -> dict[str, Any]:
    """Return the JSON document of a model, with all tensors if they are asked for."""
    document: dict[str, Any] = {"paths": [str(path) for path in result.paths]}
    if result.container is not None:
        document |= {
            "file_bytes": result.container.file_bytes,
            "gguf_version": result.container.version,
            "alignment": result.container.alignment,
        }
    document |= asdict(result.summary) | {"types": [_type_document(share) for share in result.summary.types]}
    if tensors:
        document["tensors"] = [
            {"name": tensor.name, "type": tensor.type, "shape": list(tensor.shape), "bytes": tensor.n_bytes}
            for tensor in result.tensors
        ]
    return {key: _well_formed(value) for key, value in document.items()}


def _type_document(share: TypeShare) -> dict[str, Any]:
    return {"type": share.type, "n_tensors": share.tensors, "weights": share.weights, "bytes": share.n_bytes}


def _file_texts(result: InspectResult) -> Iterator[tuple[str, str]]:
    first, *others = result.paths
    parts = f" and {len(others)} more parts" if others else ""
    yield "checkpoint" if result.container is None else "file", f"{first}{parts}"
    if result.container is not None:
        yield "size", f"{format_size(result.container.file_bytes)}, GGUF version {result.container.version}"
        yield "read", "the header alone; to check the weights against their source: verify --source SRC"


def _summary_texts(summary: ModelSummary) -> Iterator[tuple[str, str]]:
    yield "model", ", ".join(part for part in (summary.name, summary.architecture, summary.kind) if part) or "unnamed"
    weights = f"{format_count(summary.parameters)} weights in {format_count(summary.n_tensors)} tensors"
    yield "weights", f"{weights}, {summary.bits_per_weight:.2f} bits each"
    if summary.file_type is not None:
        yield "file type", summary.file_type
    yield from _shape_texts(summary)
    if summary.kv_cache is not None:
        yield "KV cache", "; ".join(_cache_parts(summary.kv_cache)) or "none"
    yield from _vocabulary_texts(summary)


def _shape_texts(summary: ModelSummary) -> Iterator[tuple[str, str]]:
    if summary.n_ctx_train is not None:
        yield "context", f"{format_count(summary.n_ctx_train)} tokens"
    if summary.n_layer is not None:
        heads = "" if summary.n_head is None else f", {summary.n_head} heads, {summary.n_head_kv} of keys and values"
        width = "" if summary.embedding_length is None else f", {format_count(summary.embedding_length)} wide"
        yield "layers", f"{format_count(summary.n_layer)}{heads}{width}"
    if summary.n_expert:
        yield "experts", f"{summary.n_expert}, {summary.n_expert_used} used for a token"


def _cache_parts(cache: KvCache) -> Iterator[str]:
    if cache.full_layers:
        latent = ", keys only" if cache.latent else ""
        yield f"{format_size(cache.bytes_per_token)} a token in {cache.full_layers} layers{latent}"
    if cache.window_layers:
        size = format_size(cache.window_bytes_per_token)
        yield f"{size} a token in {cache.window_layers} layers with a window of {format_count(cache.window)}"
    if cache.recurrent_layers:
        yield f"{format_size(cache.recurrent_bytes)} in all for {cache.recurrent_layers} recurrent layers"
    if cache.shared_layers:
        yield f"{cache.shared_layers} layers share it"


def _vocabulary_texts(summary: ModelSummary) -> Iterator[tuple[str, str]]:
    vocabulary = summary.vocabulary
    if vocabulary.size is None:
        return
    kind = " / ".join(part for part in (vocabulary.model, vocabulary.pre) if part)
    yield "vocabulary", f"{format_count(vocabulary.size)} tokens{f', {kind}' if kind else ''}"
    if vocabulary.special_tokens:
        tokens = (f"{token.role} {token.text or ''}({token.id})" for token in vocabulary.special_tokens)
        yield "special tokens", ", ".join(tokens)
    length = vocabulary.chat_template_length
    yield "chat template", "none" if length is None else f"{format_count(length)} characters"


def _type_lines(summary: ModelSummary) -> list[str]:
    rows = [
        (
            share.type,
            format_count(share.tensors),
            format_count(share.weights),
            format_size(share.n_bytes),
            f"{100 * share.n_bytes / max(summary.tensor_bytes, 1):.1f} %",
        )
        for share in summary.types
    ]
    return table_lines(("type", "tensors", "weights", "size", "share"), rows, right=(1, 2, 3, 4))


def _tensor_lines(tensors: tuple[TensorSummary, ...]) -> list[str]:
    rows = [
        (tensor.name, tensor.type, " x ".join(map(str, tensor.shape)), format_size(tensor.n_bytes))
        for tensor in tensors
    ]
    return table_lines(("tensor", "type", "shape (row length last)", "size"), rows, right=(3,))


def _well_formed(value: Any) -> Any:
    """Return a value without lone surrogates, which stand for bytes that are not UTF-8 and which JSON cannot carry."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {key: _well_formed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_well_formed(item) for item in value]
    return value
