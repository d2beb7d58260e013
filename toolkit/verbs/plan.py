"""`plan`: how much memory a model takes, and which file, split and settings fit a budget."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path

from toolkit.errors import InputError
from toolkit.llama.load_settings import AskedDevice, LoadSettings
from toolkit.memory.plannable import PlannableModel, model_from_gguf, model_from_source, profiles_worth_planning
from toolkit.model_source import ModelSource
from toolkit.planning.choice import PlannedChoice
from toolkit.planning.companions import Companion, budgets_beside, draft_model, projector
from toolkit.planning.launch import LaunchPlan, launch_plan
from toolkit.planning.planner import Planner
from toolkit.planning.ranking import LADDER
from toolkit.planning.request import MemorySource, PlanningRequest
from toolkit.planning.token_speed import GIGA, Bandwidths
from toolkit.reporter import Reporter
from toolkit.units import parse_count
from toolkit.verbs.devices import PathName, open_memory_source, warn_of_idle_gpu
from toolkit.verbs.model_names import is_gguf, report_warnings, resolve_source
from toolkit.verbs.planning import Count, PlanningFields, planning_request, warn_of_long_context
from toolkit.verbs.values import Positive, Rate
from toolkit.verbs.verb import verb


@dataclass(frozen=True)
class Sweep:
    """Lists of which every combination is planned; an empty one has the request's own value."""

    n_ctx: Sequence[Count] = ()
    kv: Sequence[str] = ()
    profiles: Sequence[str] = ()


@dataclass(frozen=True)
class PlanRequest(PlanningFields):
    """A model, the budgets, and what is asked of them."""

    source: Path | str
    """GGUF file, checkpoint, model on the hub, config.json, or `demo`"""
    _: KW_ONLY
    profiles: Sequence[str] = ()
    """only these; none stands for all that are worth planning"""
    n_parallel: Positive = 1
    """sequences"""
    kv_unified: bool = False
    """one KV cache for all sequences"""
    ubatch: Positive = 512
    """tokens that are computed at once"""
    swa_full: bool = False
    """keep all tokens in sliding-window layers"""
    mmproj: PathName | None = None
    """projector for images, loaded beside the model"""
    draft: PathName | None = None
    """draft model, loaded beside the model"""
    max_ctx: bool = False
    """find the longest context that fits"""
    sweep: Sweep | None = None
    gpu_bandwidth: Rate | None = None
    """GB/s of GPU memory; None asks the driver"""
    ram_bandwidth: Rate | None = None
    """GB/s of RAM; None measures once"""
    device: AskedDevice = "auto"
    """whom to ask for memory"""
    pre: str | None = None
    """name of the BPE pre-tokenizer"""
    local_files_only: bool = False
    """for a model on the hub, use the copy in the cache"""
    no_cache: bool = False
    """neither use nor keep answers on disk"""

    def load_settings(self, device: AskedDevice, n_devices: int, rpc: tuple[str, ...]) -> LoadSettings:
        """Return how a file would be loaded, as far as that is not planned."""
        return replace(
            super().load_settings(device, n_devices, rpc),
            n_batch=max(512, self.ubatch),
            n_ubatch=self.ubatch,
            n_parallel=self.n_parallel,
            kv_unified=self.kv_unified,
            swa_full=self.swa_full,
        )

    def bandwidths(self, *, on_cpu: bool) -> Bandwidths:
        """Return what rates are predicted from: numbers that were given, or what drivers report and what was measured."""
        found = super().bandwidths(on_cpu=on_cpu)
        if self.gpu_bandwidth:
            gpus = () if on_cpu else (self.gpu_bandwidth * GIGA,)
            found = replace(found, gpu_bytes_per_second=gpus, origin="given")
        return replace(found, ram_bytes_per_second=self.ram_bandwidth * GIGA) if self.ram_bandwidth else found


@dataclass(frozen=True)
class PlanResult:
    """The choices, best first, with all that they were planned for."""

    choices: tuple[PlannedChoice, ...]
    model: PlannableModel
    request: PlanningRequest
    companions: tuple[Companion, ...] = field(default=())
    """files that are loaded beside the model"""

    @property
    def best(self) -> PlannedChoice:
        """Return the first choice that fits, else the first."""
        return next((choice for choice in self.choices if choice.fits), self.choices[0])

    def launch(self, choice: PlannedChoice) -> LaunchPlan:
        """Return how to run a choice; a file that is not made yet goes by the name that `convert` gives it."""
        beside = {companion.role: companion.path for companion in self.companions}
        path = self.model.path or Path(f"{self.model.name}-{choice.file.profile}.gguf")
        return replace(launch_plan(choice, path), mmproj=beside.get("mmproj"), draft=beside.get("draft"))


@verb(PlanRequest)
def plan(request: PlanRequest, reporter: Reporter) -> PlanResult:
    """Plan how a model fits a budget; every number is llama.cpp's own, asked before anything is converted or loaded.

    ```python
    best = toolkit.plan("checkpoint", vram="8GiB", n_ctx="16k").best
    print(best.file.profile, best.placement.n_gpu_layers, best.tokens_per_second)
    ```

    Raises DoesNotFitError if nothing fits (in a sweep, what does not fit is a choice with `fits` False); CheckpointError,
    ConfigError or GgufError for a model that cannot be read; InputError for values that cannot be meant; HubError if a model
    cannot be fetched.
    """
    sweep = request.sweep or Sweep()
    with ExitStack() as scratch:
        path = resolve_source(
            str(request.source), reporter, scratch, local_files_only=request.local_files_only, weights=False
        )
        model = _model(path, tuple(sweep.profiles or request.profiles), request.pre, reporter)
        if request.sweep is None:
            warn_of_long_context(request.context, model.trained_context, reporter)
        asked = replace(request, kv=sweep.kv or request.kv)
        explicit = bool(sweep.profiles or request.profiles)
        planning = planning_request(asked, reporter, explicit=explicit, device=request.device)
        memory_source = scratch.enter_context(open_memory_source(reporter, no_cache=request.no_cache))
        companions, beside = _companions(request, planning, memory_source)
        with Planner(model, beside, memory_source) as planner:
            choices = _choices(planner, model, beside, request)
    warn_of_idle_gpu(choices[0], reporter)
    return PlanResult(tuple(choices), model, beside, companions)


def _companions(
    request: PlanRequest, planning: PlanningRequest, memory_source: MemorySource
) -> tuple[tuple[Companion, ...], PlanningRequest]:
    """Return the files that lie beside the model, and the request with what they leave of the budgets."""
    if request.mmproj is None and request.draft is None:
        return (), planning
    settings = replace(planning.settings, device="cpu") if planning.on_cpu else planning.settings
    companions = []
    if request.mmproj is not None:
        companions.append(projector(Path(request.mmproj)))
    if request.draft is not None:
        companions.append(draft_model(Path(request.draft), settings, memory_source))
    return tuple(companions), replace(planning, budgets=budgets_beside(planning.budgets, companions))


def _choices(
    planner: Planner, model: PlannableModel, planning: PlanningRequest, request: PlanRequest
) -> list[PlannedChoice]:
    if request.sweep is not None:
        counts = request.sweep.n_ctx or (request.context,)
        return planner.sweep([count if isinstance(count, int) else parse_count(count) for count in counts])
    if not request.max_ctx:
        return planner.choices()
    at_most = model.trained_context or request.context
    profile = model.profiles[0] if planning.explicit or len(model.profiles) == 1 else "Q4_K_M"
    return [planner.longest_context(profile, kv_types, at_most) for kv_types in planning.kv_types]


def _model(path: Path, profiles: tuple[str, ...], pre: str | None, reporter: Reporter) -> PlannableModel:
    """Return the model that SRC means, in these profiles; without any, in all that are worth planning."""
    if is_gguf(path) and not profiles:
        return model_from_gguf(path)
    if is_gguf(path):
        from toolkit.sources.gguf_source import source_from_gguf

        return model_from_source(source_from_gguf(path), profiles)
    bare = path.suffix == ".json" or _has_config_alone(path)
    model = report_warnings(_bare_source(path) if bare else _whole_source(path, pre), reporter)
    return model_from_source(model, profiles or profiles_worth_planning(model, LADDER), estimated_file_bytes=bare)


def _bare_source(path: Path) -> ModelSource:
    # Each way in is imported by itself: reading checkpoints and vocabularies takes long to import.
    from toolkit.sources.config_source import source_from_config

    return source_from_config(path)


def _whole_source(path: Path, pre: str | None) -> ModelSource:
    from toolkit.sources.hf_source import source_from_checkpoint

    return source_from_checkpoint(path, pre, norms="plain")


def _has_config_alone(path: Path) -> bool:
    weights = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pt", "*.pth", "*.gguf", "adapter_config.json")
    return (path / "config.json").is_file() and not any(next(path.glob(pattern), None) for pattern in weights)


def parse_sweep(words: Sequence[str]) -> Sweep:
    """Return the lists that words such as `ctx=4k,8k` give.

    Raises InputError for a word that is not such a list, or an empty one.
    """
    names = {"ctx": "n_ctx", "kv": "kv", "profile": "profiles"}
    lists: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, _, values = word.partition("=")
        items = tuple(value for value in values.split(",") if value)
        if name not in names or not items:
            raise InputError(f"{word!r} is not a part of a sweep; write ctx=4k,8k kv=f16,q8_0 profile=q4_k_m,q6_k")
        lists[names[name]] = items
    return Sweep(**lists)
