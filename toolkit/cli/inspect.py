"""`inspect`: what a GGUF file or a checkpoint holds."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import emit_json, json_option
from toolkit.cli.files import SOURCE
from toolkit.cli.options import local_files_option
from toolkit.cli.output import echo
from toolkit.cli.source import resolve_source, told
from toolkit.cli.tables import print_table
from toolkit.units import format_count, format_size

if TYPE_CHECKING:
    from toolkit.gguf.format import Metadata
    from toolkit.gguf.reader import GgufFile
    from toolkit.memory.kv_cache import KvCache
    from toolkit.model_source import ModelSource, SourceTensor
    from toolkit.model_summary import DescribedTensor, ModelSummary

EXAMPLE = """
\b
Examples:
  gguf-toolkit inspect model-00002-of-00003.gguf
  gguf-toolkit inspect ./SmolLM2-135M-Instruct --tensors
  gguf-toolkit inspect model.gguf --json
  gguf-toolkit inspect HuggingFaceTB/SmolLM2-135M-Instruct
"""
_LABEL_WIDTH = 16


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="FILE|DIRECTORY|MODEL", type=SOURCE)
@click.option("--tensors", "with_tensors", is_flag=True, help="List every tensor.")
@local_files_option
@json_option
def command(source: str, with_tensors: bool, local_files_only: bool, as_json: bool) -> None:
    """Show what a GGUF file or a checkpoint holds, without reading its weights.

    Any part of a split model stands for the whole. A directory is a checkpoint if it has a config.json (or Mistral's
    params.json), else the place of one GGUF model. Of a model on the hub only config, vocabulary and the headers of shards
    are fetched. KV cache sizes are those of an f16 cache for one sequence.
    """
    from toolkit.model_summary import summarize

    path = resolve_source(source, local_files_only=local_files_only, weights=False)
    is_checkpoint = path.is_dir() and any((path / name).exists() for name in ("config.json", "params.json"))
    place, metadata, tensors = _read_checkpoint(path) if is_checkpoint else _read_gguf(path)
    summary = summarize(metadata, tensors)
    if as_json:
        emit_json("inspect", _document(place, summary, tensors if with_tensors else None))
        return
    for label, text in (*_place_lines(place), *_summary_lines(summary)):
        echo(f"{label:<{_LABEL_WIDTH}}{text}")
    if summary.types:
        echo()
        _print_types(summary)
    if with_tensors:
        echo()
        _print_tensors(tensors)


def _read_gguf(path: Path) -> "tuple[dict[str, Any], Metadata, list[DescribedTensor]]":
    """Return where a GGUF model lies, its metadata and its tensors."""
    from toolkit.gguf.reader import read_gguf
    from toolkit.model_summary import described

    file = read_gguf(path)
    tensors = [described(name, rows.shape, rows.type) for name, rows in file.tensors.items()]
    return _gguf_place(file), file.metadata, tensors


def _gguf_place(file: "GgufFile") -> dict[str, Any]:
    return {
        "paths": [str(path) for path in file.paths],
        "file_bytes": file.file_bytes,
        "gguf_version": file.version,
        "alignment": file.alignment,
    }


def _read_checkpoint(directory: Path) -> "tuple[dict[str, Any], Metadata, list[DescribedTensor]]":
    """Return where a checkpoint lies, the metadata that it would get, and its tensors under their GGUF names."""
    from toolkit.sources.hf_source import source_from_checkpoint

    source = told(source_from_checkpoint(directory, norms="plain"))
    return {"paths": [str(directory)]}, source.metadata, [_stored(tensor, source) for tensor in source.tensors]


def _stored(tensor: "SourceTensor", source: "ModelSource") -> "DescribedTensor":
    """Return a tensor as the checkpoint stores it, not as it is dequantized."""
    from toolkit.model_summary import DescribedTensor, described

    if tensor.packed_bytes is None:
        return described(tensor.name, tensor.shape, tensor.source.type)
    return DescribedTensor(tensor.name, tensor.shape, source.quantization or "packed", tensor.packed_bytes)


def _document(
    place: dict[str, Any], summary: "ModelSummary", tensors: "list[DescribedTensor] | None"
) -> dict[str, Any]:
    from dataclasses import asdict

    document = place | asdict(summary)
    document["types"] = [
        {"type": share.type, "tensors": share.tensors, "weights": share.weights, "bytes": share.n_bytes}
        for share in summary.types
    ]
    if tensors is not None:
        document["tensors"] = [
            {"name": tensor.name, "type": tensor.type, "shape": list(tensor.shape), "bytes": tensor.n_bytes}
            for tensor in tensors
        ]
    return {key: _well_formed(value) for key, value in document.items()}


def _place_lines(place: dict[str, Any]) -> Iterator[tuple[str, str]]:
    first, *others = place["paths"]
    parts = f" and {len(others)} more parts" if others else ""
    yield "file" if "file_bytes" in place else "checkpoint", f"{first}{parts}"
    if "file_bytes" in place:
        yield "size", f"{format_size(place['file_bytes'])}, GGUF version {place['gguf_version']}"
        yield "read", "the header alone; whether weights are as they were made tells verify --source SRC"


def _summary_lines(summary: "ModelSummary") -> Iterator[tuple[str, str]]:
    yield "model", ", ".join(part for part in (summary.name, summary.architecture, summary.kind) if part) or "unnamed"
    weights = f"{format_count(summary.parameters)} weights in {format_count(summary.tensor_count)} tensors"
    yield "weights", f"{weights}, {summary.bits_per_weight:.2f} bits each"
    if summary.file_type is not None:
        yield "file type", summary.file_type
    yield from _shape_lines(summary)
    if summary.kv_cache is not None:
        yield "KV cache", "; ".join(_cache_parts(summary.kv_cache)) or "none"
    yield from _vocabulary_lines(summary)


def _shape_lines(summary: "ModelSummary") -> Iterator[tuple[str, str]]:
    if summary.context_length is not None:
        yield "context", f"{format_count(summary.context_length)} tokens"
    if summary.n_layer is not None:
        heads = "" if summary.n_head is None else f", {summary.n_head} heads, {summary.n_head_kv} of keys and values"
        width = "" if summary.embedding_length is None else f", {format_count(summary.embedding_length)} wide"
        yield "layers", f"{format_count(summary.n_layer)}{heads}{width}"
    if summary.n_expert:
        yield "experts", f"{summary.n_expert}, {summary.n_expert_used} used for a token"


def _cache_parts(cache: "KvCache") -> Iterator[str]:
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


def _vocabulary_lines(summary: "ModelSummary") -> Iterator[tuple[str, str]]:
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


def _print_types(summary: "ModelSummary") -> None:
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
    print_table(("type", "tensors", "weights", "size", "share"), rows, right=(1, 2, 3, 4))


def _print_tensors(tensors: "list[DescribedTensor]") -> None:
    rows = [
        (tensor.name, tensor.type, " x ".join(map(str, tensor.shape)), format_size(tensor.n_bytes))
        for tensor in tensors
    ]
    print_table(("tensor", "type", "shape (row length last)", "size"), rows, right=(3,))


def _well_formed(value: Any) -> Any:
    """Return a value without lone surrogates, which stand for bytes that were no UTF-8 and which JSON cannot carry."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {key: _well_formed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_well_formed(item) for item in value]
    return value
