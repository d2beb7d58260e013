"""What a Python user sees: a function a verb, loaded when it is asked for."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

import toolkit


def title(name):
    return "".join(map(str.title, name.split("_")))


VERBS = [name for name in toolkit.__all__ if f"{title(name)}Request" in toolkit.__all__]
PACKAGE = Path(toolkit.__file__).parent


def test_every_verb_module_is_exported_and_nothing_else_is():
    modules = {path.stem for path in (PACKAGE / "verbs").glob("*.py") if "@verb(" in path.read_text(encoding="utf-8")}
    assert modules == set(VERBS)


def test_type_checkers_see_the_names_that_there_are():
    tree = ast.parse(Path(toolkit.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.asname for node in block.body for alias in node.names}
    assert seen | {"__version__"} == set(toolkit.__all__)


def test_no_module_bears_the_name_of_a_verb_and_hides_it():
    assert not [name for name in toolkit.__all__ if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists()]


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_shows_how_it_is_called_and_takes_the_fields_of_a_frozen_request(name):
    function, request = getattr(toolkit, name), getattr(toolkit, f"{title(name)}Request")
    assert f"toolkit.{name}(" in function.__doc__
    assert "Raises" in function.__doc__
    assert set(inspect.signature(function).parameters) == {field.name for field in fields(request) if field.name != "_"}
    assert request.__dataclass_params__.frozen
    assert getattr(toolkit, f"{title(name)}Result").__dataclass_params__.frozen
    positional = [field.name for field in fields(request) if not field.kw_only]
    assert len(positional) <= 2


def test_what_does_not_exist_is_named():
    with pytest.raises(AttributeError, match="module 'toolkit' has no attribute 'konvert'"):
        toolkit.konvert  # noqa: B018


def test_import_loads_nothing_else():
    script = "import sys, toolkit; print(sorted(name for name in sys.modules if name.startswith('toolkit.')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"
    assert importlib.import_module("toolkit") is toolkit


@pytest.mark.parametrize("name", VERBS)
def test_whoever_may_name_a_file_by_a_path_may_name_it_by_a_string(name):
    request = getattr(toolkit, f"{title(name)}Request")
    kinds = {field.name: get_args(field.type) or (field.type,) for field in fields(request)}
    assert not [name for name, kind in kinds.items() if Path in kind and str not in kind]


@pytest.mark.parametrize(
    ("name", "field", "value"), [("plan", "kv", "q8_0"), ("fit", "profiles", "q4_k_m"), ("bench", "n_prompt", 512)]
)
def test_one_value_where_several_are_taken_is_refused_with_what_to_write(name, field, value):
    with pytest.raises(TypeError, match=re.escape(f"{field} takes several values; write {field}=[{value!r}]")):
        getattr(toolkit, name)("model.gguf", **{field: value})


def test_models_to_compare_are_several():
    with pytest.raises(TypeError, match=re.escape("models takes several values; write models=['a.gguf']")):
        toolkit.compare(toolkit.CompareRequest("a.gguf"))
