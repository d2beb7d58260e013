"""What a profile is: a default type, and rules of which the first that applies to a tensor decides.

A new condition is a field of `Rule`, a line in one of the two tables of conditions, one in the sentence that describes
rules, and a reader in `profile_file`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from toolkit.gguf.ggml_types import FILE_TYPES, TensorType
from toolkit.name_patterns import NamePattern


@dataclass(frozen=True)
class LayerSet:
    """A named part of the layers."""

    description: str
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
"""`LLM_TYPE_70B` in src/models/*.cpp of llama.cpp, by the name of its graph: a GGUF file of any origin has that, not a family."""

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
    location: str = field(default="", compare=False)
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
    lambda rule, model: not rule.architecture or model.traits.architecture in rule.architecture,
    lambda rule, model: model.traits.architecture not in rule.architecture_not,
    lambda rule, model: rule.model_size is None or MODEL_SIZES[rule.model_size](model.traits),
    lambda rule, model: rule.gqa_at_least is None or model.traits.heads_per_kv_head >= rule.gqa_at_least,
    lambda rule, model: rule.experts is None or model.traits.n_expert == rule.experts,
    lambda rule, model: rule.experts_at_least is None or model.traits.n_expert >= rule.experts_at_least,
    lambda rule, model: rule.imatrix is None or model.has_imatrix == rule.imatrix,
    lambda rule, model: rule.tied is None or model.tied == rule.tied,
)
_TENSOR_CONDITIONS: tuple[Callable[[Rule, Subject], bool], ...] = (
    lambda rule, tensor: not rule.role or tensor.role in rule.role,
    lambda rule, tensor: rule.name is None or rule.name.found_in(tensor.name),
    lambda rule, tensor: not rule.blocks or tensor.block in rule.blocks,
    lambda rule, tensor: rule.layers is None or _in_set(rule.layers, tensor.layer),
    lambda rule, tensor: rule.tensors is None or _in_set(rule.tensors, tensor.rank),
    lambda rule, tensor: rule.stacked is None or tensor.stacked == rule.stacked,
    lambda rule, tensor: (
        rule.row_length_not_multiple_of is None or tensor.shape[-1] % rule.row_length_not_multiple_of != 0
    ),
)


def describe_rule(rule: Rule) -> str:
    """Return a rule as a sentence: `Q6_K for attn_v in the first two layers`."""
    return f"{rule.type.name} for {describe_conditions(rule)}"


def describe_conditions(rule: Rule) -> str:
    """Return when a rule applies: which tensors, where, and in which models."""
    return " ".join(part for part in (_which_tensors(rule), _which_layers(rule), _which_models(rule)) if part)


def _which_tensors(rule: Rule) -> str:
    text = join_words(rule.role) if rule.role else "every tensor"
    if rule.stacked is not None:
        text += " of all experts together" if rule.stacked else " that holds a single matrix"
    if rule.name is not None:
        text += f" whose name matches {rule.name.pattern!r}"
    if rule.row_length_not_multiple_of is not None:
        text += f" with rows that are not a multiple of {rule.row_length_not_multiple_of}"
    return text


def _which_layers(rule: Rule) -> str:
    parts = []
    if rule.layers is not None:
        parts.append(f"in {LAYER_SETS[rule.layers].description}")
    if rule.tensors is not None:
        parts.append(f"in {LAYER_SETS[rule.tensors].description}, counted by tensors")
    if rule.blocks:
        parts.append(f"in block{'s' if len(rule.blocks) > 1 else ''} {number_ranges(rule.blocks)}")
    return " ".join(parts)


def _which_models(rule: Rule) -> str:
    conditions = (
        (rule.architecture, f"the architecture is {join_words(rule.architecture, 'or')}"),
        (rule.architecture_not, f"the architecture is not {join_words(rule.architecture_not, 'or')}"),
        (rule.model_size, f"the model is a {rule.model_size}"),
        (rule.gqa_at_least, f"{rule.gqa_at_least} or more heads share a KV head"),
        (rule.experts, f"there are exactly {rule.experts} experts"),
        (rule.experts_at_least, f"there are {rule.experts_at_least} or more experts"),
        (rule.imatrix is True, "there is an importance matrix"),
        (rule.imatrix is False, "there is no importance matrix"),
        (rule.tied is True, "embeddings are tied"),
        (rule.tied is False, "embeddings are not tied"),
    )
    texts = [text for is_set, text in conditions if is_set]
    return f"if {' and '.join(texts)}" if texts else ""


def join_words(items: tuple[str, ...], last: str = "and") -> str:
    """Return `a`, `a and b` or `a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def number_ranges(blocks: Sequence[int]) -> str:
    """Return `0-3, 7` for 0, 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for block in sorted(blocks):
        if runs and block == runs[-1][1] + 1:
            runs[-1][1] = block
        else:
            runs.append([block, block])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
