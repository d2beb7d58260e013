"""Importance matrices and second moments as text and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from toolkit.importance.layers import LayerImportance
from toolkit.importance.sums import ImatrixSums
from toolkit.render.loading import devices_document
from toolkit.render.tables import table_lines
from toolkit.verbs.imatrix import ImatrixContents, ImatrixResult

_SHOWN = 12
_LAYERS = ("layer", "share", "sum", "like the one before", "unseen experts")
_TENSORS = ("most important", "columns", "tokens", "seen", "mean square", "sum")


def written_line(result: ImatrixResult) -> str:
    """Return what was written."""
    if result.sums is not None:
        return f"wrote {result.output}: {_summary_line(result.sums)}"
    assert result.moments is not None
    chunks = f", {result.chunks} chunks" if result.chunks else ""
    return f"wrote {result.output}: second moments of {len(result.moments.inputs)} inputs{chunks}"


def imatrix_document(result: ImatrixResult) -> dict[str, Any]:
    """Return the JSON document of a matrix that was collected or merged."""
    about = {"output": str(result.output), "seconds": result.seconds, "devices": devices_document(result.devices)}
    if result.sums is not None:
        return about | _summary(result.sums)
    assert result.moments is not None
    return about | {
        "n_inputs": len(result.moments.inputs),
        "chunks": result.chunks,
        "chunk_size": result.moments.chunk_size,
        "datasets": list(result.moments.datasets),
    }


def contents_lines(contents: ImatrixContents) -> list[str]:
    """Return what a matrix covers, the layers that matter most, and the tensors."""
    return [
        f"{contents.file}: {_summary_line(contents.sums)}",
        *(contents.coverage or ()),
        "",
        *_layer_lines(contents.layers),
        "",
        *_tensor_lines(contents.sums),
    ]


def contents_document(contents: ImatrixContents) -> dict[str, Any]:
    """Return the JSON document of a matrix."""
    return {
        "imatrix": str(contents.file),
        **_summary(contents.sums),
        "layers": [_layer(layer) for layer in contents.layers],
        "tensors": _tensors(contents.sums),
        "coverage": None if contents.coverage is None else list(contents.coverage),
    }


def _layer(layer: LayerImportance) -> dict[str, Any]:
    document = asdict(layer)
    return document | {"n_tensors": document.pop("tensors")}


def _summary_line(sums: ImatrixSums) -> str:
    texts = ", ".join(sums.datasets) or "an unnamed text"
    return f"{len(sums.entries)} tensors, {sums.chunks} chunks of {sums.chunk_size} tokens of {texts}"


def _summary(sums: ImatrixSums) -> dict[str, Any]:
    return {
        "n_tensors": len(sums.entries),
        "chunks": sums.chunks,
        "chunk_size": sums.chunk_size,
        "datasets": list(sums.datasets),
        "unseen_experts": sum(entry.unseen for entry in sums.entries.values()),
    }


def _tensors(sums: ImatrixSums) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "matrices": len(entry.counts),
            "columns": int(entry.sums.shape[-1]),
            "tokens": {"least": int(entry.counts.min()), "most": int(entry.counts.max())},
            "unseen": entry.unseen,
            "mean_square": float(entry.means.mean()),
            "total": float(entry.means.sum()),
        }
        for name, entry in sums.entries.items()
    ]


def _layer_lines(layers: Sequence[LayerImportance]) -> Iterator[str]:
    ranked = sorted(layers, key=lambda layer: -layer.share)[:_SHOWN]
    rows = [
        (
            str(layer.layer),
            f"{layer.share:.1%}",
            f"{layer.total:.4g}",
            "" if layer.similarity is None else f"{layer.similarity:.3f}",
            str(layer.unseen_experts),
        )
        for layer in ranked
    ]
    yield from table_lines(_LAYERS, rows, right=(0, 1, 2, 3, 4))
    yield from _more(len(layers))


def _tensor_lines(sums: ImatrixSums) -> Iterator[str]:
    ranked = sorted(_tensors(sums), key=lambda tensor: -tensor["total"])
    rows = [
        (
            tensor["name"],
            f"{tensor['columns']:,}",
            f"{tensor['tokens']['least']:,}",
            f"{tensor['matrices'] - tensor['unseen']} of {tensor['matrices']}",
            f"{tensor['mean_square']:.4g}",
            f"{tensor['total']:.4g}",
        )
        for tensor in ranked[:_SHOWN]
    ]
    yield from table_lines(_TENSORS, rows, right=(1, 2, 3, 4, 5))
    yield from _more(len(ranked))


def _more(count: int) -> Iterator[str]:
    if count > _SHOWN:
        yield f"and {count - _SHOWN} more; --json has all"
