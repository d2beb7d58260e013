"""What the commands say of tensors whose blocks are those of their source."""

from typing import TYPE_CHECKING, Any

from toolkit.cli.output import echo

if TYPE_CHECKING:
    from toolkit.conversion.tensor_plan import ConversionPlan, TensorPlan


def _kept_tensors(plan: "ConversionPlan") -> "list[TensorPlan]":
    """Return the tensors whose blocks are those of the source."""
    return [tensor for tensor in plan.tensors if tensor.worst_difference is not None]


def print_kept(plan: "ConversionPlan", *, every_tensor: bool) -> None:
    """Say which tensors are kept, and how far they are from the source at most."""
    kept = _kept_tensors(plan)
    if every_tensor:
        for tensor in kept:
            echo(f"kept {tensor.name}: {tensor.type.name}, {_difference(tensor.worst_difference or 0.0)}")
    if kept:
        worst = max(kept, key=lambda tensor: tensor.worst_difference or 0.0)
        where = f" ({worst.name})" if worst.worst_difference else ""
        echo(f"kept {len(kept)} tensors as the source has them: {_difference(worst.worst_difference or 0.0)}{where}")


def _difference(worst: float) -> str:
    return f"at most {worst:.3g} from it, one float16 rounding of a minimum" if worst else "equal to it"


def kept_document(tensor: "TensorPlan") -> dict[str, Any]:
    """Return what a tensor's entry in a JSON document says of it."""
    return {} if tensor.worst_difference is None else {"worst_difference": tensor.worst_difference}
