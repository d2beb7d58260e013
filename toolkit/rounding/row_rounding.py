"""Which rounding a tensor gets: calibrated where it lowers the loss on held-out text, ggml's own elsewhere."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

import numpy
from numpy.typing import NDArray

from toolkit.gguf.format import EMBEDDING
from toolkit.gguf.ggml_types import TensorType
from toolkit.gguf.rows import Bytes
from toolkit.importance.moments import InputMoments, MomentsFile
from toolkit.kernels.quant_formats import FORMATS
from toolkit.llama import quantizer
from toolkit.rounding.quadratic_form import QuadraticForm, damped

Floats = NDArray[numpy.float32]

DAMPINGS = (0.01, 0.03, 0.1, 0.3)
"""shares of the mean diagonal; the best one on held-out text is taken"""
LOOK_UP_DAMPING = 0.1
"""the least damping of an embedding that is the output as well: its rows are also looked up"""
_FORMS_KEPT = 3


@dataclass(frozen=True)
class Rounding:
    """How the rows of one matrix are rounded, and how much that gains on held-out text."""

    form: QuadraticForm | None
    """None where ggml rounds them"""
    damping: float | None
    held_out_ratio: float
    """the loss of sampled rows on held-out text as a share of that of ggml's bytes; 1 where ggml's are kept"""


class MomentsRounding:
    """Rounds the rows of a model's tensors by the second moments of their inputs; any number of threads may call it."""

    def __init__(self, moments: MomentsFile) -> None:
        self.moments = moments
        self._locks: dict[tuple[str, int], Lock] = {}
        self._chosen: dict[tuple[str, int], Rounding] = {}
        self._forms = _FormCache(moments)
        self._lock = Lock()

    def covers(self, name: str, type_: TensorType) -> bool:
        """Tell whether a tensor of that name and type can be rounded by its moments."""
        return can_round(type_) and name in self.moments.shapes

    def choices(self) -> dict[tuple[str, int], Rounding]:
        """Return what was chosen so far, by tensor and matrix."""
        return dict(self._chosen)

    def round(self, tensor: "TensorRows", matrix: int, weights: Floats) -> Bytes:
        """Return uint8 [n, row bytes] for float32 [n, row length] of one matrix of a tensor."""
        choice = self._choice(tensor, matrix)
        if choice.form is None:
            importance = self._forms.moments(tensor.name, matrix).form(0.0).importance
            return quantizer.from_float32(weights, tensor.type, importance)
        return _round_calibrated(weights, tensor.type, choice.form)

    def _choice(self, tensor: "TensorRows", matrix: int) -> Rounding:
        key = (tensor.name, matrix)
        with self._lock:
            lock = self._locks.setdefault(key, Lock())
        with lock:
            if key not in self._chosen:
                self._chosen[key] = self._choose(tensor, matrix)
            chosen = self._chosen[key]
        if chosen.damping is None:
            return chosen
        return Rounding(self._forms.moments(*key).form(chosen.damping), chosen.damping, chosen.held_out_ratio)

    def _choose(self, tensor: "TensorRows", matrix: int) -> Rounding:
        """Choose by the loss of a few rows on held-out text; the form is made anew, from all of the text, when it is used."""
        moments = self._forms.moments(tensor.name, matrix)
        floor = LOOK_UP_DAMPING if tensor.name == EMBEDDING else 0.0
        held_out = damped(moments.held_out, floor)
        rows = tensor.sample(matrix)
        fitted = damped(moments.fitted, 0.0)
        plain = quantizer.from_float32(rows, tensor.type, fitted.importance)
        reference = held_out.loss(quantizer.to_float32(plain, tensor.type) - rows)

        def loss(damping: float) -> float:
            tried = _round_calibrated(rows, tensor.type, damped(moments.fitted, damping))
            return held_out.loss(quantizer.to_float32(tried, tensor.type) - rows)

        damping, best = best_damping(loss, reference, floor)
        return Rounding(None, damping, 1.0 if damping is None else best / reference)


def best_damping(loss: Callable[[float], float], reference: float, least: float) -> tuple[float | None, float]:
    """Return the damping, `least` or more, whose loss is lowest, and that loss; None where it is not below `reference`."""
    losses = {damping: loss(damping) for damping in sorted({max(damping, least) for damping in DAMPINGS})}
    best = min(losses, key=losses.__getitem__)
    return (best, losses[best]) if losses[best] < reference else (None, reference)


def can_round(type_: TensorType) -> bool:
    """Tell whether calibrated rounding has more to choose for a type than ggml's search does."""
    return type_.name in FORMATS


def _round_calibrated(weights: Floats, type_: TensorType, form: QuadraticForm) -> Bytes:
    # Here, because numba takes half a second to load, for which no conversion without moments should wait.
    from toolkit.rounding.calibrated import round_rows

    return round_rows(weights, type_, form)


@dataclass(frozen=True)
class TensorRows:
    """What is known of a tensor whose rows are rounded."""

    name: str
    type: TensorType
    sample: Callable[[int], Floats] = field(repr=False)
    """gives some rows of a matrix, float32 [n, row length], the same each time"""


class _MatrixMoments:
    """The moments of one matrix's input, and the forms made of them."""

    def __init__(self, moments: InputMoments, matrix: int) -> None:
        self.fitted, self.held_out = (means[matrix] for means in moments.means)
        self._whole = moments.whole[matrix]
        self._forms: dict[float, QuadraticForm] = {}
        self._lock = Lock()

    def form(self, damping: float) -> QuadraticForm:
        """Return the form of all of the text, held-out chunks included."""
        with self._lock:
            if damping not in self._forms:
                form = damped(self._whole, damping)
                if damping:
                    _ = form.spread  # made once here, not in every thread that needs it
                self._forms = {damping: form}
            return self._forms[damping]


class _FormCache:
    """Keeps the moments of the inputs that are being worked on: tensors that share one follow each other."""

    def __init__(self, moments: MomentsFile) -> None:
        self._moments = moments
        self._kept: OrderedDict[tuple[str, int], _MatrixMoments] = OrderedDict()
        self._lock = Lock()

    def moments(self, name: str, matrix: int) -> _MatrixMoments:
        """Return the moments of a matrix of a weight."""
        key = (self._moments.shapes[name].name, matrix)
        with self._lock:
            if key not in self._kept:
                moments = self._moments.of(name)
                assert moments is not None
                self._kept[key] = _MatrixMoments(moments, matrix)
            self._kept.move_to_end(key)
            while len(self._kept) > _FORMS_KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]
