"""What is known of every model of a comparison; nothing here measures, reads or prints."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from toolkit.measures.divergence_statistics import ChunkScores, Estimate
from toolkit.measures.paired import Interval
from toolkit.measures.token_rate import TokenRate
from toolkit.measures.verdict_rules import UseCase, VerdictRules


@dataclass(frozen=True)
class TextKey:
    """What two measurements must have in common to be compared."""

    text_sha256: str
    n_ctx_seq: int
    chunks: int
    vocabulary: str
    """a digest of the text's tokens and the size of the vocabulary"""


@dataclass(frozen=True)
class DivergenceFigures:
    """How far a model is from the base on one text."""

    mean: Estimate
    """mean KLD, with the larger error of those between tokens and between chunks"""
    median: float
    p99: float
    p999: Interval
    maximum: float
    same_top: Estimate
    log_ratio: Estimate
    """ln(PPL / PPL of the base)"""
    perplexity_ratio: float
    rounding: float
    """what the base's 16-bit storage may account for"""
    per_chunk: tuple[ChunkScores, ...]


@dataclass(frozen=True)
class Quality:
    """One model on one text."""

    kind: str
    text: str
    key: TextKey
    tokens: int
    perplexity: Estimate
    divergence: DivergenceFigures | None = None
    not_comparable: str = ""
    """why there is no divergence although there is a base"""


@dataclass(frozen=True)
class DeviceMemory:
    """What a model takes of one device at the context that was planned."""

    name: str
    on_host: bool
    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int
    budget_bytes: int

    @property
    def total_bytes(self) -> int:
        """Return the sum of the three kinds."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes


@dataclass(frozen=True)
class PlannedMemory:
    """Where a model would lie, and whether that fits."""

    devices: tuple[DeviceMemory, ...]
    n_gpu_layers: int
    n_layers: int
    """that can be offloaded"""
    fits: bool
    fits_whole: bool
    missing_bytes: int
    answered_by: str

    @property
    def gpu_bytes(self) -> int:
        """Return what lies on GPUs."""
        return sum(device.total_bytes for device in self.devices if not device.on_host)

    @property
    def total_bytes(self) -> int:
        """Return what lies anywhere."""
        return sum(device.total_bytes for device in self.devices)


@dataclass(frozen=True)
class Row:
    """One file with one type of KV cache; what could not be measured is absent, and `error` says why."""

    name: str
    """the profile, or the file's name"""
    kv: str
    is_base: bool
    file_bytes: int
    bits_per_weight: float
    memory: PlannedMemory | None = None
    qualities: tuple[Quality, ...] = ()
    rates: TokenRate | None = None
    path: str | None = None
    error: str = ""
    exit_code: int = 0

    @property
    def quality(self) -> Quality | None:
        """Return what was measured on the first text, which rows are ranked by."""
        return self.qualities[0] if self.qualities else None

    @property
    def divergence(self) -> DivergenceFigures | None:
        """Return how far it is from the base on that text."""
        return self.quality.divergence if self.quality is not None else None


@dataclass(frozen=True)
class Method:
    """How everything was measured."""

    n_ctx: int
    """the context that memory was planned for"""
    n_prompt: int
    n_generate: int
    repetitions: int
    threads: int
    measured_on: str
    margin_bytes: int = 0


@dataclass(frozen=True)
class Machine:
    """What it was measured with."""

    system: str
    processor: str
    devices: tuple[str, ...]
    ram_bytes: int
    versions: Mapping[str, str | None]


@dataclass(frozen=True)
class Comparison:
    """All rows, heaviest first after the base, and what they rest on."""

    model: str
    rows: tuple[Row, ...]
    method: Method
    machine: Machine
    rules: VerdictRules
    asked_use: str | None = None
    notes: tuple[str, ...] = ()
    command: str = ""

    @cached_property
    def base(self) -> Row | None:
        """Return the unquantized model, None if there is none."""
        return next((row for row in self.rows if row.is_base), None)

    @cached_property
    def several_kv(self) -> bool:
        """Tell whether types of the KV cache are compared, so that rows are named after them too."""
        return len({row.kv for row in self.rows}) > 1

    def label(self, row: Row) -> str:
        """Return what a row is called; a KV cache of f16 goes without saying."""
        return f"{row.name}, {row.kv} KV" if self.several_kv and row.kv != "f16" else row.name

    def cost_bytes(self, row: Row) -> int:
        """Return what a row is paid with: the size of its file, and where KV types differ all that it takes in memory."""
        return row.memory.total_bytes if self.several_kv and row.memory is not None else row.file_bytes

    @cached_property
    def use(self) -> UseCase:
        """Return the use that decides: the one asked for, or the first that text was measured for."""
        measured = {quality.kind for row in self.rows for quality in row.qualities}
        asked = [use for use in self.rules.use_cases if use.name == self.asked_use]
        fitting = [use for use in self.rules.use_cases if use.text in measured]
        return (asked or fitting or list(self.rules.use_cases))[0]
