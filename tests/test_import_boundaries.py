"""Imports go one way: the command line, what it does, the stages of that, and leaves that know nothing of the rest."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from toolkit.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "toolkit"
ROOMS = (
    ("errors", "units", "json_files", "name_patterns", "pattern_syntax", "differences", "visible_text", "reporter"),
    ("machine",),
    ("gguf",),
    ("kernels",),
    ("llama",),
    ("checkpoint",),
    ("quant_profile",),
    ("importance",),
    ("rounding",),
    ("tokenizer",),
    ("model_source",),
    ("architectures",),
    ("hub",),
    ("quantized_sources",),
    ("sources",),
    ("conversion",),
    ("memory",),
    ("demo",),
    ("planning",),
    ("measures",),
    ("calibration",),
    ("verification",),
    ("lora",),
    ("comparison",),
    ("fitting",),
    ("verbs",),
    ("render",),
    ("cli",),
    ("__main__",),
)
"""In this order: a module imports from its own room and those above it here, at the top of its file or anywhere else."""
OPEN_TO_ARCHITECTURES = (
    "checkpoint.mistral_format",
    "checkpoint.model_config",
    "errors",
    "gguf.format",
    "gguf.ggml_types",
    "gguf.rows",
    "llama.quantizer",
    "units",
)
HEAVY = (
    "numpy",
    "numba",
    "llama_cpp",
    "gguf",
    "rich",
    "tokenizers",
    "sentencepiece",
    "psutil",
    "pynvml",
    "yaml",
    "huggingface_hub",
    "jinja2",
)
OWNERS = {
    "click": ("toolkit.cli",),
    "rich": ("toolkit.cli",),
    "toolkit.cli": ("toolkit.cli", "toolkit.__main__"),
    "llama_cpp": (),
    "pynvml": ("toolkit.machine.gpus",),
    "gguf": ("toolkit.sources.model_card",),
    "yaml": ("toolkit.sources.front_matter",),
    "huggingface_hub": ("toolkit.hub",),
    "threadpoolctl": ("toolkit.machine.load",),
    "sentencepiece": ("toolkit.tokenizer",),
    "tokenizers": ("toolkit.tokenizer", "toolkit.measures.evaluation_text"),
    "numba": ("toolkit.kernels.compiling",),
    "jinja2": ("toolkit.measures.template_child", "toolkit.render.templates"),
}
"""Who may import a library: a module or all below it. llama_cpp comes by name, through `llama.native.llama_cpp()` only."""


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if "data" not in path.parts}


def room_of(module):
    return module.split(".")[1]


@cache
def tree(module):
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imported(module, nodes):
    """Return the dotted names that import statements among `nodes` bring in; `from a import b` gives a.b where that is a module."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name for name in inner if name in MODULES} or {node.module}
    return names


def everywhere(module):
    return imported(module, ast.walk(tree(module)))


def at_the_top(module):
    return imported(module, tree(module).body)


def is_below(name, parent):
    return name == parent or name.startswith(parent + ".")


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_enters_through_named_modules_only(library):
    users = [module for module in MODULES if any(is_below(name, library) for name in everywhere(module))]
    assert [user for user in users if not any(is_below(user, owner) for owner in OWNERS[library])] == []


@pytest.mark.parametrize(("library", "module"), [("llama_cpp", "llama.native"), ("pynvml", "machine.gpus")])
def test_a_library_that_comes_by_name_is_loaded_in_one_place(library, module):
    loaders = [
        module
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("import_module")
        and any(
            isinstance(argument, ast.Constant) and argument.value.split(".")[0] == library for argument in node.args
        )
    ]
    assert loaders == [f"toolkit.{module}"]


def test_every_library_is_declared_and_its_version_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.match(r"[\w-]+", requirement)[0] for requirement in project["dependencies"]}
    pinned = set(
        re.findall(r"^([\w-]+)==", (ROOT / "scripts" / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    )
    imports = {name.split(".")[0] for module in MODULES for name in everywhere(module)} | {"llama_cpp", "pynvml"}
    packages = {"yaml": "pyyaml", "llama_cpp": "llama-cpp-python", "pynvml": "nvidia-ml-py"}
    libraries = {packages.get(name, name) for name in imports - sys.stdlib_module_names - {"toolkit"}}
    assert (libraries - declared, declared - pinned) == (set(), set())


def test_there_is_no_circle():
    graph = {module: {name for name in at_the_top(module) if name in MODULES} - {module} for module in MODULES}
    list(TopologicalSorter(graph).static_order())


def test_rooms_import_in_one_direction():
    floor = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
    upwards = [
        f"{module} imports {name}"
        for module in MODULES
        if module != "toolkit"
        for name in everywhere(module)
        if is_below(name, "toolkit") and name != "toolkit" and floor[room_of(name)] > floor[room_of(module)]
    ]
    assert upwards == []


def test_every_room_is_named_and_nothing_else_is():
    assert {room_of(module) for module in MODULES if module != "toolkit"} == {room for rooms in ROOMS for room in rooms}


def test_architectures_know_neither_files_nor_writers():
    allowed = {f"toolkit.{name}" for name in OPEN_TO_ARCHITECTURES}
    for module in (name for name in MODULES if is_below(name, "toolkit.architectures")):
        names = everywhere(module)
        ours = {name for name in names if is_below(name, "toolkit") and not is_below(name, "toolkit.architectures")}
        assert ours <= allowed, module
        assert names.isdisjoint({"pathlib", "os", "io", "json", "shutil", "mmap"}), module
        calls = [node.func for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
        assert not any(isinstance(call, ast.Name) and call.id in ("open", "print") for call in calls), module


def test_only_the_command_line_prints_or_exits():
    for module in (name for name in MODULES if not is_below(name, "toolkit.cli")):
        calls = [ast.unparse(node.func) for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
        assert not {"print", "sys.exit", "exit"} & set(calls), module


def test_the_command_line_prints_in_one_place():
    """Where text of strangers is made visible: neither click's `echo`, nor `print`, nor a stream is used elsewhere."""
    printing = {"print", "click.echo", "click.secho", "click.echo_via_pager", "error.show"}
    streams = {"sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer.write", "sys.stdout.writelines"}
    inside = [name for name in MODULES if is_below(name, "toolkit.cli") and name != "toolkit.cli.output"]
    calls = {
        name: {ast.unparse(node.func) for node in ast.walk(tree(name)) if isinstance(node, ast.Call)} for name in inside
    }
    assert {name: found & (printing | streams) for name, found in calls.items() if found & (printing | streams)} == {}


def run(script):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=False, cwd=ROOT)


def test_the_command_line_starts_without_anything_heavy():
    done = run(f"import sys, toolkit.cli; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_help_of_every_command_works_where_no_library_can_be_imported():
    script = f"""
import sys
for name in {HEAVY!r}:
    sys.modules[name] = None
from click.testing import CliRunner
from toolkit.cli import COMMANDS, cli
for arguments in ([], *[[name] for name in COMMANDS]):
    result = CliRunner().invoke(cli, [*arguments, "--help"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    print(result.output.splitlines()[0])
"""
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + len(COMMANDS)


def test_the_verbs_load_the_compiler_only_when_they_compile():
    done = run(
        "import sys, toolkit; [getattr(toolkit, name) for name in toolkit.__all__]; print('numba' in sys.modules)"
    )
    assert (done.stdout.strip(), done.stderr) == ("False", "")
