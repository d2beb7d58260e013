"""What a profile is: a default type, and rules of which the first that applies to a tensor decides."""

from collections.abc import Callable
from dataclasses import dataclass, field

from toolkit.gguf.ggml_types import FILE_TYPES, TensorType
from toolkit.name_patterns import NamePattern


@dataclass(frozen=True)
class LayerSet:
    """A named part of the layers."""

    words: str
    holds: Callable[[int, int], bool]
    """(index of the layer from 0, number of layers) -> whether it is in the set"""


LAYER_SETS = {
    "first_two": LayerSet("the first two layers", lambda i, n: i < 2),  # noqa: ARG005
    "first_four": LayerSet("the first four layers", lambda i, n: i < 4),  # noqa: ARG005
    "first_sixteenth": LayerSet("the first sixteenth of the layers", lambda i, n: i < n // 16),
    "first_eighth": LayerSet("the first eighth of the layers", lambda i, n: i < n // 8),
    "middle": LayerSet("all but the first and the last eighth of the layers", lambda i, n: n // 8 <= i < 7 * n // 8),
    "more_bits": LayerSet(
        "the first and the last eighth of the layers and every third one between",
        lambda i, n: i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2,
    ),
}


@dataclass(frozen=True)
class ModelTraits:
    """The facts about a model that rules may ask for."""

    architecture: str
    """general.architecture"""
    n_layer: int
    """All blocks, those of multi-token prediction included."""
    n_head: int
    n_head_kv: int
    """Of the first block; 0 where it has no attention."""
    n_expert: int = 0

    @property
    def heads_per_kv_head(self) -> int:
        """Return how many heads share a key and a value; 0 without attention."""
        return self.n_head // self.n_head_kv if self.n_head_kv else 0


def _is_70b(traits: ModelTraits) -> bool:
    shared_values = traits.architecture not in {"llama", "llama-embed"} or traits.n_head != traits.n_head_kv
    return _LAYERS_OF_70B.get(traits.architecture) == traits.n_layer and shared_values


_LAYERS_OF_70B = {"llama": 80, "llama-embed": 80, "qwen2": 80, "deci": 80, "olmo": 80, "jais2": 68}
"""`LLM_TYPE_70B` in src/models/*.cpp of llama.cpp."""

MODEL_SIZES: dict[str, Callable[[ModelTraits], bool]] = {"70B": _is_70b}


@dataclass(frozen=True, slots=True)
class Position:
    """Where something stands in a sequence."""

    index: int
    count: int


@dataclass(frozen=True)
class Model:
    """A model as rules see it."""

    traits: ModelTraits
    tied: bool
    """There is no output.weight, so the token embedding does its work."""
    has_imatrix: bool


@dataclass(frozen=True, slots=True)
class Subject:
    """A tensor as rules see it."""

    name: str
    shape: tuple[int, ...]
    """Row length last."""
    role: str
    block: int | None
    layer: Position | None
    """Which of the layers it belongs to."""
    rank: Position
    """How many tensors of its role came before it."""

    @property
    def stacked(self) -> bool:
        """Tell whether the tensor holds one matrix an expert."""
        return len(self.shape) > 2 and self.shape[-3] > 1


@dataclass(frozen=True)
class Rule:
    """A type, and the conditions that must all hold for it; a condition that is not set always holds."""

    type: TensorType
    role: tuple[str, ...] = ()
    name: NamePattern | None = None
    blocks: tuple[int, ...] = ()
    layers: str | None = None
    tensors: str | None = None
    architecture: tuple[str, ...] = ()
    architecture_not: tuple[str, ...] = ()
    model_size: str | None = None
    gqa_at_least: int | None = None
    experts: int | None = None
    experts_at_least: int | None = None
    imatrix: bool | None = None
    tied: bool | None = None
    stacked: bool | None = None
    row_length_not_multiple_of: int | None = None
    place: str = field(default="", compare=False)
    """the file and line that the rule was read from, for messages"""

    def concerns(self, model: Model) -> bool:
        """Tell whether the conditions on the model hold."""
        return all(condition(self, model) for condition in _MODEL_CONDITIONS)

    def applies_to(self, subject: Subject) -> bool:
        """Tell whether the conditions on the tensor hold, for a rule that concerns its model."""
        return all(condition(self, subject) for condition in _TENSOR_CONDITIONS)


@dataclass(frozen=True)
class QuantProfile:
    """A named mixture of types."""

    name: str
    file_type_name: str
    default: TensorType
    rules: tuple[Rule, ...] = ()
    needs_imatrix: bool = False
    quantize_all: bool = False
    """Quantize also the small matrices that llama-quantize leaves alone, as convert_hf_to_gguf --outtype does."""
    summary: str = ""
    keep: bool = False
    """Store every tensor as its source does, as far as GGUF can, whatever `default` and rules say."""

    @property
    def file_type(self) -> int:
        """Return the value of general.file_type."""
        return FILE_TYPES[self.file_type_name]


def _in_set(name: str, position: Position | None) -> bool:
    return position is not None and LAYER_SETS[name].holds(position.index, position.count)


_MODEL_CONDITIONS: tuple[Callable[[Rule, Model], bool], ...] = (
    lambda rule, it: not rule.architecture or it.traits.architecture in rule.architecture,
    lambda rule, it: it.traits.architecture not in rule.architecture_not,
    lambda rule, it: rule.model_size is None or MODEL_SIZES[rule.model_size](it.traits),
    lambda rule, it: rule.gqa_at_least is None or it.traits.heads_per_kv_head >= rule.gqa_at_least,
    lambda rule, it: rule.experts is None or it.traits.n_expert == rule.experts,
    lambda rule, it: rule.experts_at_least is None or it.traits.n_expert >= rule.experts_at_least,
    lambda rule, it: rule.imatrix is None or it.has_imatrix == rule.imatrix,
    lambda rule, it: rule.tied is None or it.tied == rule.tied,
)
_TENSOR_CONDITIONS: tuple[Callable[[Rule, Subject], bool], ...] = (
    lambda rule, it: not rule.role or it.role in rule.role,
    lambda rule, it: rule.name is None or rule.name.found_in(it.name),
    lambda rule, it: not rule.blocks or it.block in rule.blocks,
    lambda rule, it: rule.layers is None or _in_set(rule.layers, it.layer),
    lambda rule, it: rule.tensors is None or _in_set(rule.tensors, it.rank),
    lambda rule, it: rule.stacked is None or it.stacked == rule.stacked,
    lambda rule, it: rule.row_length_not_multiple_of is None or it.shape[-1] % rule.row_length_not_multiple_of != 0,
)
