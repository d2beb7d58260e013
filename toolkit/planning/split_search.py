"""Find the placement with the most on the GPUs that fits every budget, with few questions about memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from toolkit.errors import DoesNotFitError
from toolkit.llama.footprint import Footprint
from toolkit.memory.placement import ModelTensors, Placement, placements, spread
from toolkit.planning.budgets import Budgets
from toolkit.units import format_size

MAX_SPREADS = 6
"""How often layers are divided anew between GPUs before a placement counts as too large."""
AskPlacement = Callable[[Placement], Footprint]


@dataclass(frozen=True)
class FoundSplit:
    """A placement that fits the GPUs, and what it takes."""

    placement: Placement
    footprint: Footprint
    fits_whole: bool


@dataclass(frozen=True)
class WholeOffload:
    """What keeps a model from lying on the GPUs whole: by how much they are too small, and what could be made smaller."""

    lacks_bytes: int
    kv_cache_bytes: int
    compute_bytes: int


class SplitSearch:
    """The search for one file and one set of settings; `ask` gives the footprint of a placement.

    `like` is what the whole offload of the same model takes in another profile: its caches and compute buffers are the
    same, so it does for a guess.
    """

    def __init__(
        self, tensors: ModelTensors, budgets: Budgets, ask: AskPlacement, like: Footprint | None = None
    ) -> None:
        self._tensors, self._budgets, self._ask, self._like = tensors, budgets, ask, like
        self._steps = placements(tensors)
        self._tried: dict[int, FoundSplit | None] = {}

    def best(self) -> FoundSplit:
        """Return the last placement that fits; the next one would not.

        Asks for the whole offload, for the nearest guess, and for a few steps from there until one fits and the next does
        not; a guess that is far off costs the logarithm of its distance.

        Raises DoesNotFitError if not even an empty offload fits the GPUs.
        """
        last = len(self._steps) - 1
        whole = self._at(last)
        if whole is not None:
            return whole
        low, high = self._bracket(self._guess(), last)
        while high - low > 1:
            middle = (low + high) // 2
            if self._at(middle) is None:
                high = middle
            else:
                low = middle
        found = self._at(low)
        assert found is not None
        return found

    def whole_footprint(self) -> Footprint:
        """Return what everything on the GPUs would take, whether it fits or not."""
        return self._ask(self._steps[-1])

    def whole(self) -> WholeOffload:
        """Return what the whole offload lacks, to the byte on one GPU; several lack more where no layer ends at their border."""
        whole = self.whole_footprint()
        compute_bytes = sum(device.compute_bytes for device in whole.devices if not device.on_host)
        lacks = max(1, whole.gpu_bytes - sum(self._budgets.room))
        return WholeOffload(lacks, _kv_cache_bytes(whole), compute_bytes)

    def excess_of_one_layer(self) -> int:
        """Return by how much the least that can be offloaded exceeds the budgets."""
        return sum(self._budgets.excess(self._ask(self._steps[1])))

    def _bracket(self, guess: int, last: int) -> tuple[int, int]:
        """Return a step that fits and a later one that does not, starting from a guess."""
        step = 1
        if self._at(guess) is not None:
            low = guess
            while low + step < last and self._at(low + step) is not None:
                low, step = low + step, 2 * step
            return low, min(low + step, last)
        high = guess
        while high > 0:
            low = max(0, high - step)
            if self._at(low) is not None:
                return low, high
            high, step = low, 2 * step
        raise DoesNotFitError(
            f"even with no layer offloaded, the GPU needs {format_size(max(self._budgets.excess(self._ask(self._steps[0]))))} "
            "more than its budget; use a shorter context or a smaller batch"
        )

    def _guess(self) -> int:
        """Return the last step that fits if memory is what the whole offload takes, scaled by layers."""
        whole = self._like or self.whole_footprint()
        compute_bytes = max((device.compute_bytes for device in whole.devices if not device.on_host), default=0)
        room = sum(max(0, size - compute_bytes) for size in self._budgets.room)
        low, high = 0, len(self._steps) - 1
        while high - low > 1:
            middle = (low + high) // 2
            if sum(self._layer_costs(self._steps[middle])) <= room:
                low = middle
            else:
                high = middle
        return low

    def _at(self, step: int) -> FoundSplit | None:
        if step not in self._tried:
            possible = self._least_bytes(step) <= sum(self._budgets.room)
            whole = step == len(self._steps) - 1
            self._tried[step] = self._try(self._steps[step], whole=whole) if possible else None
        return self._tried[step]

    def _least_bytes(self, step: int) -> int:
        """Return what a step takes without its compute buffers at least: where that is too much, there is nothing to ask.

        More layers never have less of the KV cache than fewer.
        """
        caches = (_kv_cache_bytes(found.footprint) for tried, found in self._tried.items() if found and tried <= step)
        return sum(self._tensors.layer_bytes(self._steps[step])) + max(caches, default=0)

    def _try(self, placement: Placement, *, whole: bool) -> FoundSplit | None:
        if len(self._budgets.room) > 1 and placement.n_gpu_layers:
            return self._spread(placement, whole=whole)
        footprint = self._ask(placement)
        return FoundSplit(placement, footprint, whole) if self._budgets.holds(footprint) else None

    def _spread(self, placement: Placement, *, whole: bool) -> FoundSplit | None:
        """Divide the layers between several GPUs.

        What a GPU takes beyond its layers (compute buffers) is known only once it is asked for, and depends on the
        division; so the room is corrected by what was found, and the layers divided again.
        """
        costs = self._layer_costs(placement)
        room: Sequence[int] = self._budgets.room
        for _ in range(MAX_SPREADS):
            counts = spread(costs, room)
            if counts is None:
                return None
            divided = replace(placement, tensor_split=counts)
            footprint = self._ask(divided)
            if self._budgets.holds(footprint):
                return FoundSplit(divided, footprint, whole)
            beyond = [taken - filled for taken, filled in zip(_taken(footprint), _filled(costs, counts), strict=True)]
            room = [size - max(0, more) for size, more in zip(self._budgets.room, beyond, strict=True)]
        return None

    def _layer_costs(self, placement: Placement) -> list[int]:
        """Return weights and an equal share of the KV cache for every layer on a GPU, the output last."""
        sizes = self._tensors.layer_bytes(placement)
        share = self._kv_bytes // max(1, self._tensors.n_layer)
        return [size + share for size in sizes[:-1]] + sizes[-1:]

    @cached_property
    def _kv_bytes(self) -> int:
        whole = self._like or self.whole_footprint()
        return _kv_cache_bytes(whole)


def _kv_cache_bytes(footprint: Footprint) -> int:
    """Return the bytes of the KV cache on the GPUs."""
    return sum(device.kv_cache_bytes for device in footprint.devices if not device.on_host)


def _taken(footprint: Footprint) -> list[int]:
    return [footprint.bytes_on(name) for name in footprint.asked]


def _filled(layer_bytes: Sequence[int], counts: Sequence[int]) -> list[int]:
    """Return the bytes of the layers on each GPU."""
    sums, start = [], 0
    for count in counts:
        sums.append(sum(layer_bytes[start : start + count]))
        start += count
    return sums
