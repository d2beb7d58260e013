"""What the commands say of sources that are quantized already: what is kept, and what a second rounding costs."""

from typing import TYPE_CHECKING, Any

import click

from toolkit.units import format_count

if TYPE_CHECKING:
    from toolkit.model_source import ModelSource
    from toolkit.tensor_plan import ConversionPlan, TensorPlan


def second_rounding_warning(source: "ModelSource", plan: "ConversionPlan") -> tuple[str, ...]:
    """Return a line with the measured cost of rounding again; nothing where that is not done."""
    from toolkit.second_rounding import second_rounding

    found = second_rounding(source, plan)
    if found is None:
        return ()
    keep = "--profile keep avoids it, and " if found.avoidable else ""
    return (
        f"the source is quantized already ({source.quantization}): a second rounding of {found.n_tensors} tensors, to "
        f"{', '.join(found.types)}, moves their weights by {found.relative_error:.1%} (relative RMS, measured on "
        f"{format_count(found.n_rows)} rows); {keep}the original in bf16 or f16 gives a better file",
    )


def kept_tensors(plan: "ConversionPlan") -> "list[TensorPlan]":
    """Return the tensors whose blocks are those of the source."""
    return [tensor for tensor in plan.tensors if tensor.worst_difference is not None]


def print_kept(plan: "ConversionPlan", *, every_tensor: bool) -> None:
    """Say which tensors are kept, and how far they are from the source at most."""
    kept = kept_tensors(plan)
    if every_tensor:
        for tensor in kept:
            click.echo(f"kept {tensor.name}: {tensor.type.name}, {_difference(tensor.worst_difference or 0.0)}")
    if kept:
        worst = max(kept, key=lambda tensor: tensor.worst_difference or 0.0)
        where = f" ({worst.name})" if worst.worst_difference else ""
        click.echo(
            f"kept {len(kept)} tensors as the source has them: {_difference(worst.worst_difference or 0.0)}{where}"
        )


def _difference(worst: float) -> str:
    return f"at most {worst:.3g} from it, one float16 rounding of a minimum" if worst else "equal to it"


def kept_document(tensor: "TensorPlan") -> dict[str, Any]:
    """Return what a tensor's entry in a JSON document says of it."""
    return {} if tensor.worst_difference is None else {"worst_difference": tensor.worst_difference}
