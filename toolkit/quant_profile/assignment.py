"""Give every tensor of a model its type: what llama.cpp's llama-quantize would give it.

Source: `llama_tensor_get_type` and its callees in src/llama-quant.cpp of llama.cpp (commit 0c1e570).
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from toolkit.errors import ProfileError, TensorError
from toolkit.gguf.format import OUTPUT
from toolkit.gguf.ggml_types import BF16, F32, FLOAT_TYPES, Q8_0, TensorType
from toolkit.quant_profile.profile import Model, ModelTraits, Position, QuantProfile, Subject, describe_conditions
from toolkit.quant_profile.protected import is_always_f32, may_be_quantized, needs_q8_0
from toolkit.quant_profile.roles import (
    FFN_ROLES,
    TOKEN_EMBEDDINGS,
    VALUE_ROLES,
    block_of,
    role_of,
    walking_order,
)
from toolkit.quant_profile.weight_types import NEED_IMATRIX, fitting_type, weight_type


@dataclass(frozen=True)
class TypeChoice:
    """The type of a tensor, and how it came about."""

    type: TensorType
    fallback_from: TensorType | None
    """The type that was wanted, where a row is not a whole number of its quant blocks."""
    needs_imatrix: bool
    """Without an importance matrix for this tensor the result would be useless."""
    why: str
    quantizable: bool = True
    """False for a tensor that no profile quantizes; one that comes from a GGUF file keeps its type there."""


@dataclass(frozen=True)
class TypeOverride:
    """A type for all tensors whose name a pattern is found in; stronger than any profile."""

    pattern: str
    type: TensorType

    def names(self, name: str) -> bool:
        """Tell whether the pattern is found in a tensor's name."""
        return re.search(self.pattern, name) is not None


def parse_override(text: str) -> TypeOverride:
    """Return the override that `PATTERN=TYPE` stands for, for example `ffn_down=q4_k`.

    Raises ProfileError if it is not of that form, the pattern is not a regular expression, or weights cannot be turned
    into the type.
    """
    pattern, equals, type_name = text.rpartition("=")
    if not equals or not pattern:
        raise ProfileError(f"tensor type {text!r}: expected PATTERN=TYPE, for example ffn_down=q4_k")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ProfileError(f"tensor type {text!r}: {pattern!r} is not a regular expression ({error})") from error
    return TypeOverride(pattern, weight_type(type_name.strip()))


def assign_types(  # noqa: PLR0913
    profile: QuantProfile,
    tensors: Sequence[tuple[str, tuple[int, ...]]],
    traits: ModelTraits,
    has_imatrix: bool = False,
    overrides: Sequence[TypeOverride] = (),
    *,
    unquantized: TensorType = BF16,
) -> dict[str, TypeChoice]:
    """Return the type of every tensor, in the order given.

    `tensors` are all names and shapes (row length last) of the model, because rules count them. `unquantized` is for the
    tensors that are neither quantized nor always F32. Where llama-quantize ignores overrides for a 16- or 32-bit file,
    they hold here too.

    Raises ProfileError if an override matches no tensor that can be quantized or a rule's name pattern none, TensorError
    if a tensor's block is beyond the model's.
    """
    names = {name for name, _ in tensors}
    _refuse_idle_patterns(profile, names)
    model = Model(traits, OUTPUT not in names, has_imatrix)
    assignment = _Assignment(profile, model, names)
    choices: dict[str, TypeChoice] = {}
    used: set[TypeOverride] = set()
    for name, shape in sorted(tensors, key=lambda tensor: walking_order(tensor[0])):
        if not assignment.quantizes(name, shape):
            choices[name] = assignment.keep(name, shape, unquantized)
            continue
        override = next((override for override in overrides if override.names(name)), None)
        used.update(candidate for candidate in overrides if candidate.names(name))
        choices[name] = assignment.choose(name, shape) if override is None else assignment.obey(name, shape, override)
    _refuse_idle(overrides, used)
    return {name: choices[name] for name, _ in tensors}


class _Assignment:
    """The walk over the tensors of a model, with the counts that rules look at."""

    def __init__(self, profile: QuantProfile, model: Model, names: Collection[str]) -> None:
        self._profile = profile
        self._rules = [rule for rule in profile.rules if rule.concerns(model)]
        self._traits = model.traits
        self._tied = model.tied
        self._n_value_tensors = sum(role_of(name, tied=model.tied) in VALUE_ROLES for name in names)
        self._seen: Counter[str] = Counter()

    def quantizes(self, name: str, shape: tuple[int, ...]) -> bool:
        """Tell whether the profile may choose a type for this tensor."""
        if self._profile.quantize_all:
            return not is_always_f32(name, shape, self._traits.architecture)
        return may_be_quantized(name, shape, self._traits.architecture)

    def keep(self, name: str, shape: tuple[int, ...], unquantized: TensorType) -> TypeChoice:
        """Return the type of a tensor that is not quantized."""
        if is_always_f32(name, shape, self._traits.architecture):
            return TypeChoice(F32, None, False, "always F32", quantizable=False)
        return TypeChoice(unquantized, None, False, "never quantized", quantizable=False)

    def choose(self, name: str, shape: tuple[int, ...]) -> TypeChoice:
        """Return what the profile says about a tensor, and count it."""
        subject = self._subject(name, shape)
        if needs_q8_0(name, self._traits.architecture) and self._profile.default not in FLOAT_TYPES:
            return self._fitted(subject.name, shape, Q8_0, f"{self._traits.architecture} needs at least Q8_0 here")
        rule = next((rule for rule in self._rules if rule.applies_to(subject)), None)
        if rule is None:
            return self._fitted(name, shape, self._profile.default, f"default of {self._profile.name}")
        return self._fitted(name, shape, rule.type, describe_conditions(rule))

    def obey(self, name: str, shape: tuple[int, ...], override: TypeOverride) -> TypeChoice:
        """Return what an override says about a tensor; as in llama.cpp, it is not counted then."""
        return self._fitted(name, shape, override.type, f"override {override.pattern}={override.type.name}")

    def _fitted(self, name: str, shape: tuple[int, ...], wanted: TensorType, why: str) -> TypeChoice:
        type_ = fitting_type(wanted, shape[-1])
        if type_ is wanted:
            return TypeChoice(type_, None, self._needs_imatrix(name, type_), why)
        why += f"; rows of {shape[-1]} are not whole {wanted.name} quant blocks of {wanted.block_length}"
        return TypeChoice(type_, wanted, self._needs_imatrix(name, type_), why)

    def _needs_imatrix(self, name: str, type_: TensorType) -> bool:
        if name == OUTPUT or name in TOKEN_EMBEDDINGS:
            return False
        bare_q2_k = type_.name == "Q2_K" and self._profile.file_type_name == "MOSTLY_Q2_K_S"
        return type_.name in NEED_IMATRIX or bare_q2_k

    def _subject(self, name: str, shape: tuple[int, ...]) -> Subject:
        """Return the tensor with its place.

        llama.cpp finds the layer of a value tensor, and of a feed-forward part that is not a mixture of experts, by counting;
        so a layer that lacks one shifts those behind it. For all others the name says it.
        """
        role, block = role_of(name, tied=self._tied), block_of(name)
        if block is not None and block >= self._traits.n_layer:
            raise TensorError(f"{name}: block {block}, but the model has only {self._traits.n_layer}")
        rank = self._next_rank(role)
        counted = role in VALUE_ROLES or (role in FFN_ROLES and self._traits.n_expert <= 1)
        named = None if block is None else Position(block, self._traits.n_layer)
        return Subject(name, shape, role, block, rank if counted else named, rank)

    def _next_rank(self, role: str) -> Position:
        counted_as = "values" if role in VALUE_ROLES else role
        index = self._seen[counted_as]
        self._seen[counted_as] += 1
        return Position(index, self._n_value_tensors if role in VALUE_ROLES else self._traits.n_layer)


def _refuse_idle_patterns(profile: QuantProfile, names: Collection[str]) -> None:
    for rule in profile.rules:
        if rule.name is not None and not any(rule.name.found_in(name) for name in names):
            raise ProfileError(f"{rule.location}: name {rule.name.pattern!r} matches no tensor of this model")


def _refuse_idle(overrides: Sequence[TypeOverride], used: set[TypeOverride]) -> None:
    idle = [override for override in overrides if override not in used]
    if idle:
        text = f"{idle[0].pattern}={idle[0].type.name}"
        raise ProfileError(
            f"tensor type {text!r} matches no tensor that can be quantized; names look like blk.0.ffn_down.weight"
        )
