"""Which file to make for a budget: candidates asked of llama.cpp through skeletons, before any weight is converted."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from toolkit.convert import write_skeleton
from toolkit.errors import DoesNotFitError
from toolkit.imatrix import Imatrix
from toolkit.memory import Footprint, MemorySettings
from toolkit.model_source import ModelSource
from toolkit.planner import FOUR_BITS, LADDER, SPLIT_PROFILE, Budget, Choice, Prefer, Split, choose_split, rank
from toolkit.quant_profile import load_profile
from toolkit.tensor_plan import ConversionPlan, plan_conversion
from toolkit.units import format_size

__all__ = ["KV_TYPES", "LADDER", "AsksMemory", "Candidate", "FitPlanner", "FitRequest"]

KV_TYPES = ("f16", "q8_0")
RUNNERS_UP = 3


class AsksMemory(Protocol):
    """Whoever knows what a file would take: a `MemoryProbe`, or a fake."""

    def probe(self, path: Path, settings: MemorySettings) -> Footprint:
        """Return the footprint of a file."""
        ...


@dataclass(frozen=True)
class FitRequest:
    """What has to fit where, and what counts."""

    budget: Budget
    n_ctx: int
    ram_bytes: int
    prefer: Prefer = Prefer.BALANCE
    profiles: tuple[str, ...] = LADDER
    kv_types: tuple[str, ...] = KV_TYPES


@dataclass(frozen=True)
class Candidate:
    """A file that fits, and its plan."""

    choice: Choice
    plan: ConversionPlan

    def settings(self, n_ctx: int) -> MemorySettings:
        """Return how to load it."""
        kv_type = self.choice.kv_type
        return MemorySettings(n_ctx, self.choice.split.n_gpu_layers, kv_type_k=kv_type, kv_type_v=kv_type)


class FitPlanner:
    """Finds the candidates of one model; skeletons live as long as the `with` block."""

    def __init__(
        self, source: ModelSource, request: FitRequest, asker: AsksMemory, imatrix: Imatrix | None = None
    ) -> None:
        self._source = source
        self._request = request
        self._asker = asker
        self._imatrix = imatrix
        self._plans: dict[str, ConversionPlan] = {}
        self._footprints: dict[tuple[str, MemorySettings], Footprint] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="gguf-toolkit-")

    def __enter__(self) -> "FitPlanner":
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def candidates(self) -> list[Candidate]:
        """Return what fits, best first.

        Raises DoesNotFitError if nothing does; the message says what would.
        """
        found = list(self._whole())
        enough = any(candidate.choice.bits >= FOUR_BITS for candidate in found)
        if not enough or self._request.prefer is Prefer.QUALITY:
            found += self._split_candidates()
        if not found:
            raise DoesNotFitError(self._nothing_fits())
        by_choice = {candidate.choice: candidate for candidate in found}
        return [by_choice[choice] for choice in rank(by_choice, self._request.prefer)]

    def heavier(self, than: Candidate) -> Candidate | None:
        """Return the next heavier profile with as many layers as fit, or None if there is none."""
        lighter_first = [
            name for name in reversed(self._request.profiles) if self._bytes(name) > than.choice.file_bytes
        ]
        for name in lighter_first:
            candidate = next(self._fitting(name, than.choice.kv_type), None)
            if candidate is not None:
                return candidate
        return None

    def _whole(self) -> Iterator[Candidate]:
        """Yield the best files that fit whole; smaller ones than the first few are not asked for."""
        possible = (name for name in self._request.profiles if self._may_fit(name))
        fitting = (candidate for name in possible if (candidate := self._whole_with_largest_kv(name)) is not None)
        yield from islice(fitting, RUNNERS_UP)

    def _whole_with_largest_kv(self, name: str) -> Candidate | None:
        for kv_type in self._request.kv_types:
            footprint = self._at(name, kv_type)(self._all)
            if self._holds(footprint):
                return self._candidate(name, kv_type, Split(self._all, footprint, True))
        return None

    def _split_candidates(self) -> Iterator[Candidate]:
        named = [name for name in self._request.profiles if name.upper() == SPLIT_PROFILE]
        names = self._request.profiles if self._request.prefer is Prefer.QUALITY or not named else tuple(named)
        for name in names[:RUNNERS_UP]:
            for kv_type in self._request.kv_types:
                yield from (one for one in self._fitting(name, kv_type) if not one.choice.split.fits_whole)

    def _fitting(self, name: str, kv_type: str) -> Iterator[Candidate]:
        try:
            split = choose_split(self._at(name, kv_type), self._all - 1, self._request.budget)
        except DoesNotFitError:
            return
        if split.n_gpu_layers and split.footprint.host_bytes <= self._request.ram_bytes:
            yield self._candidate(name, kv_type, split)

    def _candidate(self, name: str, kv_type: str, split: Split) -> Candidate:
        plan = self._plan(name)
        return Candidate(
            Choice(plan.profile.name, plan.profile.default.bits_per_weight, plan.file_bytes, kv_type, split), plan
        )

    @property
    def _all(self) -> int:
        """The layers of a full offload: all blocks, and the output."""
        return self._source.traits.n_layer + 1

    def _holds(self, footprint: Footprint) -> bool:
        return self._request.budget.holds(footprint) and footprint.host_bytes <= self._request.ram_bytes

    def _may_fit(self, name: str) -> bool:
        """Tell whether the weights alone leave a chance; the token embedding stays in RAM unless it is the output too."""
        on_gpu = sum(tensor.n_bytes for tensor in self._plan(name).tensors if tensor.name != "token_embd.weight")
        return on_gpu <= self._request.budget.vram_bytes

    def _at(self, name: str, kv_type: str) -> Callable[[int], Footprint]:
        def footprint_at(n_gpu_layers: int) -> Footprint:
            settings = MemorySettings(self._request.n_ctx, n_gpu_layers, kv_type_k=kv_type, kv_type_v=kv_type)
            key = (name, settings)
            if key not in self._footprints:
                self._footprints[key] = self._asker.probe(self._skeleton(name), settings)
            return self._footprints[key]

        return footprint_at

    def _plan(self, name: str) -> ConversionPlan:
        if name not in self._plans:
            self._plans[name] = plan_conversion(self._source, load_profile(name), self._imatrix)
        return self._plans[name]

    def _bytes(self, name: str) -> int:
        return self._plan(name).file_bytes

    def _skeleton(self, name: str) -> Path:
        path = Path(self._folder.name) / f"{self._plan(name).profile.name}.gguf"
        if not path.exists():
            write_skeleton(self._plan(name), path)
        return path

    def _nothing_fits(self) -> str:
        request = self._request
        smallest, kv_type = request.profiles[-1], request.kv_types[-1]
        whole, one_layer = (self._at(smallest, kv_type)(layers).gpu_bytes for layers in (self._all, 1))
        margin = request.budget.margin_bytes
        return (
            f"nothing fits {format_size(request.budget.vram_bytes)} of VRAM at a context of {request.n_ctx:,}: "
            f"{smallest} with {kv_type} KV needs {format_size(whole + margin)} whole, {format_size(one_layer + margin)} with one "
            f"layer on the GPU (margin {format_size(margin)} included); give more --vram or a shorter --ctx"
        )
