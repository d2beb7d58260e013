"""Which file, which context, which KV type and which split for a budget: every answer asked of llama.cpp, nothing converted."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, product

from toolkit.errors import DoesNotFitError, GgufError, InputError
from toolkit.gguf.format import ModelKeys
from toolkit.gguf.scratch import ScratchFolder
from toolkit.llama.footprint import Footprint
from toolkit.llama.load_settings import F16_KV, KvTypes, LoadSettings
from toolkit.llama.model_limits import check_positions, learnt_positions
from toolkit.llama.offload_build import offload_build
from toolkit.llama.opening import check_opens
from toolkit.memory.placement import Placement
from toolkit.memory.plannable import PlannableModel, PlannedFile
from toolkit.memory.skeleton import Skeleton, write_skeleton
from toolkit.planning.choice import PlannedChoice, placed_settings, ranked
from toolkit.planning.ranking import FOUR_BITS, SPLIT_PROFILE, Prefer
from toolkit.planning.request import MAX_CONTEXT, MemorySource, PlanningRequest, check_context, check_settings
from toolkit.planning.split_search import FoundSplit, SplitSearch
from toolkit.planning.token_speed import moved_bytes, tokens_per_second
from toolkit.units import format_size

RUNNERS_UP = 3
CONTEXT_STEP = 256
"""llama.cpp rounds the cells of a cache up to a multiple of this."""


class _KvTypeError(InputError):
    """llama.cpp cannot have a KV type with this model; another may do."""


class Planner:
    """Plans one model; skeletons live as long as the `with` block."""

    def __init__(self, model: PlannableModel, request: PlanningRequest, memory_source: MemorySource) -> None:
        check_settings(request.settings, request.kv_types)
        self._model, self._request, self._memory_source = model, request, memory_source
        self._files: dict[str, PlannedFile] = {}
        self._skeletons: dict[str, Skeleton] = {}
        self._whole: dict[LoadSettings, Footprint] = {}
        self._check_positions(request.settings.n_ctx // request.settings.n_parallel)
        if model.path is not None and offload_build().installed:
            # A skeleton lacks what llama.cpp may die of. With the cache that every model can have: others are asked for below.
            check_opens(model.path, replace(request.settings, kv_types=F16_KV))
        self._folder = ScratchFolder()

    def __enter__(self) -> "Planner":
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.close()

    def choices(self) -> list[PlannedChoice]:
        """Return what fits, best first.

        Raises DoesNotFitError if nothing does; the message says what would.
        """
        found = list(self._every() if self._request.explicit else self._best_few())
        if not found:
            raise DoesNotFitError(self._nothing_fits())
        return ranked(found, self._request.prefer)

    def sweep(self, contexts: Sequence[int]) -> list[PlannedChoice]:
        """Return a choice for every profile, KV type and context, fitting or not, in this order."""
        for n_ctx in contexts:
            check_context(n_ctx)
            self._check_positions(n_ctx)
        everything = product(self._model.profiles, self._request.kv_types, contexts)
        return [self.choice(profile, kv_types, n_ctx) for profile, kv_types, n_ctx in everything]

    def choice(self, profile: str, kv_types: KvTypes, n_ctx: int | None = None) -> PlannedChoice:
        """Return one profile with one KV type, split as it fits, or with what it lacks.

        Raises InputError if llama.cpp cannot have that KV type with this model.
        """
        file = self._file(profile)
        settings = replace(
            self._request.settings,
            kv_types=kv_types,
            n_ctx=n_ctx or self._request.settings.n_ctx,
        )
        return self._split(file, settings)

    def placed(self, profile: str, kv_types: KvTypes, placement: Placement) -> PlannedChoice:
        """Return one profile with one KV type and a split given by hand, whether it fits or not."""
        file = self._file(profile)
        settings = replace(self._request.settings, kv_types=kv_types)
        if self._request.on_cpu:
            return self._cpu_alone(file, settings)
        footprint = self._ask(file, settings, placement)
        found = FoundSplit(placement, footprint, placement.n_gpu_layers > file.model_tensors.n_layer)
        fits = self._request.budgets.holds(footprint)
        return self._choice(file, settings, found) if fits else self._unfit(file, settings, found)

    def heavier(self, than: PlannedChoice) -> PlannedChoice | None:
        """Return the next heavier profile with the same KV types and as much on the GPUs as fits; None if there is none."""
        for name in reversed(self._model.profiles):
            if self._file(name).file_bytes > than.file.file_bytes:
                one = self.choice(name, than.settings.kv_types)
                if one.fits and (one.placement.n_gpu_layers or self._request.on_cpu):
                    return one
        return None

    def longest_context(self, profile: str, kv_types: KvTypes, at_most: int) -> PlannedChoice:
        """Return the longest context, a multiple of 256 tokens, that fits whole; with a split, if whole none does.

        Raises DoesNotFitError if none fits.
        """
        at_most = min(at_most, MAX_CONTEXT)
        shortest = min(CONTEXT_STEP, at_most)
        first = self.choice(profile, kv_types, shortest)
        if not first.fits:
            raise DoesNotFitError(
                f"{first.file.profile} does not fit at a context of {shortest}: {format_size(first.missing_bytes)} too much; "
                "give more --vram or a smaller --profile"
            )

        def fitting(n_ctx: int) -> PlannedChoice | None:
            choice = self.choice(profile, kv_types, n_ctx)
            return choice if choice.fits and choice.fits_whole >= first.fits_whole else None

        return _longest(fitting, first, at_most)

    def _best_few(self) -> Iterator[PlannedChoice]:
        """Yield the best files that fit whole, and where none of enough bits does, the splits of one that has them."""
        possible = (name for name in self._model.profiles if self._may_fit(name))
        whole = list(islice((one for name in possible if (one := self._with_largest_kv(name))), RUNNERS_UP))
        yield from whole
        if self._request.prefer is not Prefer.QUALITY and any(one.file.bits >= FOUR_BITS for one in whole):
            return
        named = [name for name in self._model.profiles if name.upper() == SPLIT_PROFILE]
        quality = self._request.prefer is Prefer.QUALITY or not named
        split = (
            one for name in (self._model.profiles if quality else named)[:RUNNERS_UP] for one in self._fitting(name)
        )
        found = [one for one in split if not (one.fits_whole or self._request.on_cpu)]
        # Where Q4_K_M is too large even for both memories, whatever is left that fits.
        yield from found or (() if whole else islice(self._every(), 1))

    def _with_largest_kv(self, name: str) -> PlannedChoice | None:
        return next((one for one in self._fitting(name, whole_only=True) if one.fits_whole), None)

    def _every(self) -> Iterator[PlannedChoice]:
        for name in self._model.profiles:
            yield from self._fitting(name)

    def _fitting(self, name: str, *, whole_only: bool = False) -> Iterator[PlannedChoice]:
        """Yield the choices of a profile that fit; a KV type that the model cannot have is not proposed."""
        for kv_types in self._request.kv_types:
            try:
                if whole_only and not self._whole_fits(name, kv_types):
                    continue
                one = self.choice(name, kv_types)
            except _KvTypeError:
                if len(self._request.kv_types) == 1:
                    raise
                continue
            if one.fits:
                yield one

    def _whole_fits(self, name: str, kv_types: KvTypes) -> bool:
        """Tell whether the whole offload fits, without a search for a split."""
        if self._request.on_cpu:
            return True
        settings = replace(self._request.settings, kv_types=kv_types)
        search = self._search(self._file(name), settings)
        # Several GPUs can be filled in more than one way, which the search knows.
        return len(self._request.budgets.vram_bytes) > 1 or self._request.budgets.holds(search.whole_footprint())

    def _may_fit(self, name: str) -> bool:
        """Tell whether the weights alone leave a chance of a whole offload."""
        if self._request.on_cpu:
            return True
        room = sum(self._request.budgets.vram_bytes)
        if self._model.least_bytes(name) > room:
            return False
        tensors = self._file(name).model_tensors
        return sum(tensors.layer_bytes(Placement(tensors.n_layer + 1))) <= room

    def _split(self, file: PlannedFile, settings: LoadSettings) -> PlannedChoice:
        if self._request.on_cpu:
            return self._cpu_alone(file, settings)
        search = self._search(file, settings)
        try:
            found = search.best()
        except DoesNotFitError:
            # Not even compute buffers have room on the GPUs.
            one = self._cpu_alone(file, settings)
        else:
            one = self._choice(file, settings, found)
            if found.fits_whole:
                return one
        lacking = 0 if one.placement.n_gpu_layers else search.excess_of_one_layer()
        return replace(one, first_layer_lacks_bytes=lacking, whole=search.whole())

    def _cpu_alone(self, file: PlannedFile, settings: LoadSettings) -> PlannedChoice:
        """Return a file on the CPU; that is the whole of it where nothing else was asked for."""
        settings = replace(settings, device="cpu", rpc=(), n_devices=1)
        footprint = self._ask(file, settings, Placement(0))
        return self._choice(file, settings, FoundSplit(Placement(0), footprint, fits_whole=self._request.on_cpu))

    def _search(self, file: PlannedFile, settings: LoadSettings) -> SplitSearch:
        def ask(placement: Placement) -> Footprint:
            footprint = self._ask(file, settings, placement)
            if placement == Placement(file.model_tensors.n_layer + 1):
                self._whole.setdefault(settings, footprint)
            return footprint

        return SplitSearch(file.model_tensors, self._request.budgets, ask, self._whole.get(settings))

    def _choice(self, file: PlannedFile, settings: LoadSettings, found: FoundSplit) -> PlannedChoice:
        if self._request.budgets.ram_excess(found.footprint):
            return self._unfit(file, settings, found)
        moved = moved_bytes(file.model_tensors, file.experts, found.placement, found.footprint)
        rate = tokens_per_second(moved, self._request.bandwidths, file.model_tensors.n_layer)
        placed = placed_settings(settings, found.placement)
        return PlannedChoice(file, placed, found.placement, found.footprint, True, found.fits_whole, rate)

    def _unfit(self, file: PlannedFile, settings: LoadSettings, found: FoundSplit) -> PlannedChoice:
        budgets = self._request.budgets
        missing = sum(budgets.excess(found.footprint)) + budgets.ram_excess(found.footprint)
        placed = placed_settings(settings, found.placement)
        return PlannedChoice(file, placed, found.placement, found.footprint, False, found.fits_whole, 0.0, missing)

    def _ask(self, file: PlannedFile, settings: LoadSettings, placement: Placement) -> Footprint:
        skeleton = self._skeleton(file)
        try:
            return self._memory_source.ask(skeleton, placed_settings(settings, placement))
        except GgufError as error:
            # A skeleton is ours, and gone when this is read.
            reason = str(error).replace(str(skeleton.path), str(self._model.path or self._model.name))
            if not settings.kv_types.quantized:
                raise GgufError(reason) from error
            raise _KvTypeError(
                f"KV type {settings.kv_types}: {reason}; use --kv f16, or --flash-attention auto"
            ) from error

    def _check_positions(self, n_ctx: int) -> None:
        """Raise InputError for a context that goes beyond the positions that a model has learnt."""
        architecture = ModelKeys(self._model.metadata).architecture
        positions = learnt_positions(architecture, lambda: self._file(self._model.profiles[0]).tensors)
        check_positions(self._model.name, positions, n_ctx)

    def _file(self, profile: str) -> PlannedFile:
        if profile not in self._files:
            self._files[profile] = self._model.make(profile)
        return self._files[profile]

    def _skeleton(self, file: PlannedFile) -> Skeleton:
        if file.profile not in self._skeletons:
            path = self._folder.path / f"{len(self._skeletons)}.gguf"
            self._skeletons[file.profile] = write_skeleton(file.metadata, file.tensors, path)
        return self._skeletons[file.profile]

    def _nothing_fits(self) -> str:
        choice = self.choice(self._model.profiles[-1], self._request.kv_types[-1])
        what = f"{choice.file.profile} with {choice.settings.kv_types} KV at a context of {choice.settings.n_ctx:,}"
        available = self._request.budgets.ram_bytes
        needed = available + self._request.budgets.ram_excess(choice.footprint)
        return (
            f"{what} needs {format_size(needed)} of RAM, and {format_size(available)} "
            "are available; give a smaller --profile, a shorter --ctx, more --vram, or --ram by hand"
        )


def _longest(fitting: Callable[[int], PlannedChoice | None], first: PlannedChoice, at_most: int) -> PlannedChoice:
    best, low, high = first, first.settings.n_ctx // CONTEXT_STEP, at_most // CONTEXT_STEP + 1
    last = fitting(at_most)
    if last is not None:
        return last
    while high - low > 1:
        middle = (low + high) // 2
        found = fitting(middle * CONTEXT_STEP)
        if found is None:
            high = middle
        else:
            best, low = found, middle
    return best
