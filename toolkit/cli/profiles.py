"""List, show and check quantization profiles."""

import math
from pathlib import Path
from typing import Any

import click

from toolkit.cli.common import emit_json, json_option
from toolkit.cli.files import INPUT, INPUT_NAME
from toolkit.cli.output import echo
from toolkit.cli.tables import print_table
from toolkit.quant_profile import (
    EXAMPLE_MODELS,
    ExampleModel,
    QuantProfile,
    TypeChoice,
    assign_types,
    load_profile,
    profile_names,
    read_profile,
)
from toolkit.quant_profile.roles import block_of
from toolkit.quant_profile.wording import describe_rule, number_ranges

TYPICAL = "llama-2-7b"


EXAMPLE = """
\b
Examples:
  gguf-toolkit profiles list
  gguf-toolkit profiles show q4_k_m --model llama-3-8b
  gguf-toolkit profiles check mine.toml
"""


@click.group(name="profiles", epilog=EXAMPLE)
def command() -> None:
    """List, show and check quantization profiles.

    A profile is a TOML file: a default type, and rules of which the first that applies to a tensor decides.
    """


@command.command(name="list")
@json_option
def list_profiles(as_json: bool) -> None:
    """List the profiles that come with the toolkit, smallest first.

    Bits per weight are those of a Llama with 7 billion weights; `profiles show NAME --model` gives others.
    """
    profiles = [load_profile(name) for name in profile_names()]
    rows = sorted(((_typical_bits_per_weight(profile), profile) for profile in profiles), key=lambda row: row[0])
    if as_json:
        emit_json("profiles", {"profiles": [_summary(profile) | {"bits_per_weight": bits} for bits, profile in rows]})
        return
    cells = [
        (profile.name, f"{bits:.2f}", "needed" if profile.needs_imatrix else "", profile.summary)
        for bits, profile in rows
    ]
    print_table(("profile", "bits/weight", "imatrix", "what it is"), cells, right=(1,))


@command.command()
@click.argument("profile_name", metavar="NAME|FILE", type=INPUT_NAME)
@click.option(
    "--model", type=click.Choice(list(EXAMPLE_MODELS)), default=TYPICAL, show_default=True, help="Shape to apply it to."
)
@click.option("--imatrix/--no-imatrix", default=None, help="Types with or without an importance matrix.")
@json_option
def show(profile_name: str, model: str, imatrix: bool | None, as_json: bool) -> None:
    """Show the rules of a profile in words, and the types that they give to a model."""
    profile, example = load_profile(profile_name), EXAMPLE_MODELS[model]
    has_imatrix = profile.needs_imatrix if imatrix is None else imatrix
    choices = assign_types(profile, example.tensors(), example.traits, has_imatrix)
    bits = _bits_per_weight(example, choices)
    if as_json:
        emit_json("profile", _document(profile, example, choices) | {"model": model, "bits_per_weight": bits})
        return
    _print_rules(profile)
    echo()
    echo(f"{example.words} {'with' if has_imatrix else 'without'} an importance matrix:")
    for line in _type_lines(choices):
        echo(f"  {line}")
    echo(f"  {bits:.2f} bits per weight")


@command.command()
@click.argument("file", type=INPUT)
@json_option
def check(file: Path, as_json: bool) -> None:
    """Check a profile of your own; exit code 2, file and line if it is wrong."""
    profile = read_profile(file)
    bits = _typical_bits_per_weight(profile)
    if as_json:
        emit_json("profile-check", _summary(profile) | {"rules": len(profile.rules), "bits_per_weight": bits})
        return
    count = f"{len(profile.rules)} rule{'' if len(profile.rules) == 1 else 's'}"
    echo(f"{file}: {profile.name} is good: {count}, {bits:.2f} bits per weight for a 7B Llama")


def _typical_bits_per_weight(profile: QuantProfile) -> float:
    model = EXAMPLE_MODELS[TYPICAL]
    return _bits_per_weight(model, assign_types(profile, model.tensors(), model.traits, profile.needs_imatrix))


def _bits_per_weight(model: ExampleModel, choices: dict[str, TypeChoice]) -> float:
    n_bytes = sum(choices[name].type.tensor_bytes(shape) for name, shape in model.tensors())
    return 8 * n_bytes / sum(math.prod(shape) for _, shape in model.tensors())


def _summary(profile: QuantProfile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "file_type": profile.file_type_name,
        "default": profile.default.name,
        "needs_imatrix": profile.needs_imatrix,
        "summary": profile.summary,
    }


def _document(profile: QuantProfile, model: ExampleModel, choices: dict[str, TypeChoice]) -> dict[str, Any]:
    tensors = [
        {
            "name": name,
            "shape": list(shape),
            "type": choices[name].type.name,
            "fallback_from": fallen.name if (fallen := choices[name].fallback_from) else None,
            "needs_imatrix": choices[name].needs_imatrix,
            "why": choices[name].why,
        }
        for name, shape in model.tensors()
    ]
    return _summary(profile) | {"rules": [describe_rule(rule) for rule in profile.rules], "tensors": tensors}


def _print_rules(profile: QuantProfile) -> None:
    need = "; needs an importance matrix" if profile.needs_imatrix else ""
    echo(f"{profile.name}: {profile.summary or 'no summary'} ({profile.file_type_name}{need})")
    echo()
    for number, rule in enumerate(profile.rules, 1):
        echo(f"  {number:>2}. {describe_rule(rule)}")
    if profile.keep:
        echo("  blocks and floats as the source has them; F16 for what has to be dequantized; for a source in BF16:")
    echo(f"  {'else' if profile.rules else 'always':>3} {profile.default.name}")
    if profile.quantize_all:
        echo("  also for the small matrices that llama-quantize leaves alone")


def _type_lines(choices: dict[str, TypeChoice]) -> list[str]:
    """Return a line a kind of tensor: its types, and in which blocks."""
    kinds: dict[str, dict[str, list[int]]] = {}
    for name, choice in choices.items():
        block = block_of(name)
        kind = name.removeprefix(f"blk.{block}.").removesuffix(".weight")
        kinds.setdefault(kind, {}).setdefault(_type_words(choice), []).append(-1 if block is None else block)
    width = max(map(len, kinds))
    lines = []
    for kind, types in kinds.items():
        alone = len(types) == 1
        words = [words if alone else f"{words} in {number_ranges(blocks)}" for words, blocks in types.items()]
        lines.append(f"{kind:<{width}}  {'; '.join(words)}")
    return lines


def _type_words(choice: TypeChoice) -> str:
    fallen = choice.fallback_from
    return f"{choice.type.name} (for {fallen.name})" if fallen else choice.type.name
