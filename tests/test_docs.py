"""What the README says of the command line is true of it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from toolkit.cli import COMMANDS, cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name):
    assert re.search(rf"^\| `{name}\b", README, re.MULTILINE), f"README's table of commands lacks {name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_summary_and_an_example(name):
    shown = CliRunner(catch_exceptions=False).invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    assert f"gguf-toolkit {name}" in shown.output
    assert "Example" in shown.output
    assert "--json" in shown.output or "COMMAND" in shown.output


def test_options_in_the_readme_exist():
    runner = CliRunner(catch_exceptions=False)
    helps = "\n".join(runner.invoke(cli, [name, "--help"]).output for name in COMMANDS)
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)):
        assert option in helps, f"README speaks of {option}, which no command takes"


def test_lines_of_the_readme_fit_a_terminal():
    assert not [line for line in README.splitlines() if len(line) > 120]


@pytest.mark.parametrize("term", ["flash attention", "estimate", "unified memory", "KV cache", "offload", "imatrix"])
def test_the_readme_is_found_by_the_terms_of_the_field(term):
    assert re.search(rf"\b{term}", README, re.IGNORECASE)


def test_exit_codes_of_the_help_and_the_readme_agree():
    shown = CliRunner(catch_exceptions=False).invoke(cli, ["--help"]).output
    in_help = dict(re.findall(r"^\s+(\d+)\s\s(.+)$", shown, re.MULTILINE))
    in_readme = dict(re.findall(r"^\| (\d+) \| (.+?) \|$", README, re.MULTILINE))
    in_help |= dict(re.findall(r"^\s+(\d+, \d+, \d+)\s\s(.+)$", shown, re.MULTILINE))
    in_readme |= dict(re.findall(r"^\| (\d+, \d+, \d+) \| (.+?) \|$", README, re.MULTILINE))
    assert in_help.keys() == in_readme.keys() != set()
    for code, meaning in in_help.items():
        assert in_readme[code].startswith(meaning), code


def test_the_code_comes_with_its_licence_and_version():
    import toolkit

    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert f'version = "{toolkit.__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_table_and_the_pages_of_commands_are_what_the_commands_say():
    done = subprocess.run(
        [sys.executable, "scripts/make_docs", "--check"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
