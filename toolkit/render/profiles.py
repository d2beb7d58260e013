"""Profiles as text and as JSON."""

from typing import Any

from toolkit.quant_profile import ProfilePreview, QuantProfile, TypeChoice
from toolkit.quant_profile.profile import describe_rule, number_ranges
from toolkit.quant_profile.roles import block_of
from toolkit.render.tables import table_lines
from toolkit.verbs.profiles import ProfilesResult
from toolkit.verbs.show_profile import ShowProfileResult


def profiles_lines(result: ProfilesResult) -> list[str]:
    """Return a line a profile."""
    rows = [
        (
            preview.profile.name,
            f"{preview.bits_per_weight:.2f}",
            "needed" if preview.profile.needs_imatrix else "",
            preview.profile.summary,
        )
        for preview in result.previews
    ]
    return table_lines(("profile", "bits/weight", "imatrix", "what it is"), rows, right=(1,))


def profiles_document(result: ProfilesResult) -> dict[str, Any]:
    """Return the JSON document of all profiles."""
    return {
        "profiles": [
            _profile_document(preview.profile) | {"bits_per_weight": preview.bits_per_weight}
            for preview in result.previews
        ]
    }


def profile_lines(result: ShowProfileResult) -> list[str]:
    """Return the rules of a profile as sentences, and the types that they give to a model."""
    preview = result.preview
    return [
        *_rule_lines(preview.profile),
        "",
        f"{preview.model.title} {'with' if preview.has_imatrix else 'without'} an importance matrix:",
        *(f"  {line}" for line in _type_lines(preview)),
        f"  {preview.bits_per_weight:.2f} bits per weight",
    ]


def profile_document(result: ShowProfileResult) -> dict[str, Any]:
    """Return the JSON document of a profile, with every tensor of the model."""
    preview = result.preview
    return _profile_document(preview.profile) | {
        "rules": [describe_rule(rule) for rule in preview.profile.rules],
        "tensors": [_tensor_document(name, shape, preview.types[name]) for name, shape in preview.model.tensors()],
        "model": result.model,
        "bits_per_weight": preview.bits_per_weight,
    }


def profile_check_lines(file: str, result: ShowProfileResult) -> list[str]:
    """Return the line that says that a profile is valid."""
    profile = result.profile
    count = f"{len(profile.rules)} rule{'' if len(profile.rules) == 1 else 's'}"
    bits = f"{result.preview.bits_per_weight:.2f} bits per weight"
    return [f"{file}: {profile.name} is good: {count}, {bits} for a 7B Llama"]


def profile_check_document(result: ShowProfileResult) -> dict[str, Any]:
    """Return the JSON document of a valid profile."""
    counts = {"rules": len(result.profile.rules), "bits_per_weight": result.preview.bits_per_weight}
    return _profile_document(result.profile) | counts


def _profile_document(profile: QuantProfile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "file_type": profile.file_type_name,
        "default": profile.default.name,
        "needs_imatrix": profile.needs_imatrix,
        "summary": profile.summary,
    }


def _tensor_document(name: str, shape: tuple[int, ...], choice: TypeChoice) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(shape),
        "type": choice.type.name,
        "fallback_from": None if choice.fallback_from is None else choice.fallback_from.name,
        "needs_imatrix": choice.needs_imatrix,
        "why": choice.why,
    }


def _rule_lines(profile: QuantProfile) -> list[str]:
    need = "; needs an importance matrix" if profile.needs_imatrix else ""
    lines = [f"{profile.name}: {profile.summary or 'no summary'} ({profile.file_type_name}{need})", ""]
    lines += [f"  {number:>2}. {describe_rule(rule)}" for number, rule in enumerate(profile.rules, 1)]
    if profile.keep:
        lines.append(
            "  quant blocks and floats as the source has them; F16 for what has to be dequantized; for a source in BF16:"
        )
    lines.append(f"  {'else' if profile.rules else 'always':>3} {profile.default.name}")
    if profile.quantize_all:
        lines.append("  also for the small matrices that llama-quantize leaves alone")
    return lines


def _type_lines(preview: ProfilePreview) -> list[str]:
    """Return a line a kind of tensor: its types, and in which blocks."""
    kinds: dict[str, dict[str, list[int]]] = {}
    for name, choice in preview.types.items():
        block = block_of(name)
        kind = name.removeprefix(f"blk.{block}.").removesuffix(".weight")
        kinds.setdefault(kind, {}).setdefault(type_text(choice), []).append(-1 if block is None else block)
    width = max(map(len, kinds))
    return [f"{kind:<{width}}  {_types_text(types)}" for kind, types in kinds.items()]


def _types_text(types: dict[str, list[int]]) -> str:
    if len(types) == 1:
        return next(iter(types))
    return "; ".join(f"{text} in {number_ranges(blocks)}" for text, blocks in types.items())


def type_text(choice: TypeChoice) -> str:
    """Return a type, and which one it replaces where rows do not fit that: `Q5_0 (for Q4_K)`."""
    wanted = choice.fallback_from
    return f"{choice.type.name} (for {wanted.name})" if wanted else choice.type.name
