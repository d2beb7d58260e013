"""What holds for every architecture that is registered, and how little one more of a known kind takes."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from twins import changed_case, convert_edited

from toolkit.architectures import architecture_families, families, find_architecture, known_architectures
from toolkit.architectures.registry import FAMILIES
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.format import MAX_NAME_BYTES
from toolkit.gguf.reader import read_gguf

FOLDER = Path(families.__file__).parent
PARTS = FOLDER.parent / "parts"
KNOWN = known_architectures()
BY_CLASS = {name: known for known in KNOWN for name in known.hf_classes}
RESEMBLES_LLAMA = ("mistral", "qwen3", "qwen2", "smollm3")


def repeated(names):
    return sorted({name for name in names if names.count(name) > 1})


def test_class_names_and_model_types_are_unique():
    assert repeated([name for known in KNOWN for name in known.hf_classes]) == []
    assert repeated([name for known in KNOWN for name in known.model_types]) == []


def test_every_file_of_the_folder_stands_in_the_registry_with_its_model_types():
    assert list(FAMILIES) == sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
    for name, model_types in FAMILIES.items():
        members = import_module(f"{families.__name__}.{name}").ARCHITECTURES
        assert members, name
        assert model_types == tuple(model_type for known in members for model_type in known.model_types), name


def imported_families(path):
    """Return what a module imports of families: name here -> file of the family."""
    return {
        alias.asname or alias.name: node.module.rpartition(".")[2]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module.startswith(families.__name__)
        for alias in node.names
    }


def replaced_values(path):
    """Return the names of the values that `replace` makes others of."""
    calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    return {ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "replace"}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_takes_from_another_only_if_it_is_made_of_it(name):
    imported = imported_families(FOLDER / f"{name}.py")
    parents = {imported[value] for value in replaced_values(FOLDER / f"{name}.py") if value in imported}
    assert set(imported.values()) <= parents


def test_parts_know_no_family():
    assert {path.name: imported_families(path) for path in PARTS.glob("*.py") if imported_families(path)} == {}


@pytest.mark.parametrize("name", BY_CLASS)
def test_an_architecture_is_found_by_its_class_and_by_its_model_type(name):
    known = BY_CLASS[name]
    assert find_architecture(ModelConfig({"architectures": [name]})) == (known, ())
    for model_type in known.model_types:
        found, notes = find_architecture(ModelConfig({"model_type": model_type}))
        assert found is known
        assert len(notes) == 1


@pytest.mark.parametrize("name", BY_CLASS)
def test_names_in_rules_are_those_of_gguf_and_fit(name):
    for rule in BY_CLASS[name].tensors:
        target = rule.target.format(layer=999)
        assert len(target.encode()) <= MAX_NAME_BYTES
        assert re.fullmatch(r"((enc\.|dec\.)?(blk\.999\.)?)?[a-z0-9_]+(\.\w+){0,2}", target), target
        assert rule.shape, rule.source
        if "{layer}" in rule.source:
            assert "{layer}" in rule.target


@pytest.mark.parametrize("name", BY_CLASS)
def test_two_rules_for_one_target_are_alternatives_with_sources_of_their_own(name):
    rules = [(rule.target, rule.source, rule.layers) for rule in BY_CLASS[name].tensors]
    assert len(set(rules)) == len(rules)


@pytest.mark.parametrize("name", BY_CLASS)
def test_the_embedding_and_the_last_norm_have_rules(name):
    targets = {rule.target for rule in BY_CLASS[name].tensors}
    assert "token_embd.weight" in targets
    known = BY_CLASS[name]
    assert known.naming.embedding_tensor in {rule.source for rule in known.tensors}


@pytest.mark.parametrize("name", BY_CLASS)
def test_patterns_of_dropped_names_compile_and_say_why(name):
    for pattern, why in BY_CLASS[name].dropped.items():
        re.compile(pattern)
        assert why


@pytest.mark.parametrize("name", ["LlamaForCausalML", "Qwen3", "", "llama"])
def test_an_unknown_class_is_told_the_nearest_one(name):
    with pytest.raises(ConfigError, match=r"is not supported; the nearest is \w+; known: "):
        find_architecture(ModelConfig({"architectures": [name]}))


def code_lines(path):
    text = re.sub(r'"""(.|\n)*?"""', "", path.read_text(encoding="utf-8"))
    return [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "from", "import"))
    ]


def test_a_relative_of_llama_is_a_short_file():
    lengths = {name: len(code_lines(FOLDER / f"{name}.py")) for name in RESEMBLES_LLAMA}
    assert lengths["mistral"] < 25, lengths
    assert lengths["qwen3"] < 25, lengths
    assert max(lengths.values()) < 45, lengths


NEWCOMER = '''
"""Newcomer: Llama without rope permutation, with norms on the heads, under a class of its own."""

from dataclasses import replace

from toolkit.architectures.families.qwen3 import QWEN3

NEWCOMER = replace(
    QWEN3,
    hf_classes=("NewcomerForCausalLM",),
    model_types=("newcomer",),
    class_defaults={**QWEN3.class_defaults, "rope_theta": 20000.0},
)

ARCHITECTURES = (NEWCOMER,)
'''


def test_a_new_file_and_its_line_in_the_registry_are_all_that_a_new_architecture_takes(tmp_path, monkeypatch):
    assert len(NEWCOMER.splitlines()) < 25
    (tmp_path / "newcomer.py").write_text(NEWCOMER, encoding="utf-8")
    monkeypatch.setitem(FAMILIES, "newcomer", ("newcomer",))
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "toolkit.architectures.families.newcomer", raising=False)
    architecture_families.cache_clear()
    try:
        path = convert_edited(changed_case("qwen3", tmp_path / "case", newcomer))
    finally:
        monkeypatch.undo()
        architecture_families.cache_clear()
        del sys.modules["toolkit.architectures.families.newcomer"], families.newcomer
    assert read_gguf(path).metadata["qwen3.rope.freq_base"].value == 20000.0


def newcomer(checkpoint):
    checkpoint.config |= {"architectures": ["NewcomerForCausalLM"], "model_type": "newcomer"}
    checkpoint.config.pop("rope_theta", None)


@pytest.mark.parametrize("name", BY_CLASS)
def test_the_file_of_the_model_type_gives_what_all_files_together_give(name):
    for model_type in (*BY_CLASS[name].model_types, "llama", "base", ["llama"]):
        found, notes = find_architecture(ModelConfig({"architectures": [name], "model_type": model_type}))
        assert (found, notes) == (BY_CLASS[name], ())


def test_a_class_that_is_in_the_file_of_its_model_type_is_found_without_importing_all_others():
    script = """
import sys
import toolkit, toolkit.cli
from toolkit.architectures import find_architecture
from toolkit.checkpoint.model_config import ModelConfig
print(*[name for name in sys.modules if name.startswith("toolkit.architectures.families.")])
print(find_architecture(ModelConfig({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))[0].name)
print(*[name for name in sys.modules if name.startswith("toolkit.architectures.families.")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    before, name, modules = done.stdout.splitlines()
    assert (before, name) == ("", "llama")
    assert len(modules.split()) < len(list(FOLDER.glob("*.py"))) / 4
