"""The commands `profiles list`, `profiles show` and `profiles check`."""

from pathlib import Path
from typing import Any

import click

from toolkit.cli.common import json_option, show
from toolkit.cli.files import INPUT, INPUT_NAME
from toolkit.cli.reporter import CONSOLE
from toolkit.quant_profile import EXAMPLE_MODELS, TYPICAL_MODEL

EXAMPLE = """
\b
Examples:
  gguf-toolkit profiles list
  gguf-toolkit profiles show q4_k_m --model llama-3.1-8b
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
    from toolkit.render.profiles import profiles_document, profiles_lines
    from toolkit.verbs.profiles import ProfilesRequest, profiles

    result = profiles(ProfilesRequest(), CONSOLE)
    show("profiles", profiles_document(result) if as_json else profiles_lines(result))


@command.command(name="show")
@click.argument("profile", metavar="NAME|FILE", type=INPUT_NAME)
@click.option(
    "--model",
    type=click.Choice(list(EXAMPLE_MODELS)),
    default=TYPICAL_MODEL,
    show_default=True,
    help="Model to apply it to.",
)
@click.option(
    "--imatrix/--no-imatrix",
    default=None,
    help="Types with or without an importance matrix; default: with one if the profile needs it.",
)
@json_option
def show_rules(profile: str, as_json: bool, **options: Any) -> None:
    """Show the rules of a profile as sentences, and the types that they give to a model."""
    from toolkit.render.profiles import profile_document, profile_lines
    from toolkit.verbs.show_profile import ShowProfileRequest, show_profile

    result = show_profile(ShowProfileRequest(profile, **options), CONSOLE)
    show("profile", profile_document(result) if as_json else profile_lines(result))


@command.command()
@click.argument("file", type=INPUT)
@json_option
def check(file: Path, as_json: bool) -> None:
    """Check a profile of your own; exit code 2, file and line if it is wrong."""
    from toolkit.render.profiles import profile_check_document, profile_check_lines
    from toolkit.verbs.show_profile import ShowProfileRequest, show_profile

    result = show_profile(ShowProfileRequest(file), CONSOLE)
    show("profile-check", profile_check_document(result) if as_json else profile_check_lines(str(file), result))
