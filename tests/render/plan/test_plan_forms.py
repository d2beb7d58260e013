"""A plan in every form: as JSON, as a table for people, and for other programs."""

import json
from dataclasses import replace

import pytest

import toolkit
from toolkit.cli.plan import command
from toolkit.render.plan import launch_block, launch_warnings, plan_document, table
from toolkit.render.plan.launch import FORMATS

FIXED = {"ram": "8GiB", "gpu_bandwidth": 400.0, "ram_bandwidth": 40.0, "n_ctx": 256}


@pytest.fixture(scope="module")
def whole(tiny):
    return toolkit.plan(tiny, vram="64MiB", n_parallel=2, **FIXED)


@pytest.fixture(scope="module")
def split(tiny):
    return toolkit.plan(tiny, vram="3MiB", margin=0, kv=["f16"], **FIXED)


def test_a_script_reads_every_choice_with_its_devices(whole):
    document = json.loads(json.dumps(plan_document(whole), allow_nan=False))
    assert document["estimated"] is False
    assert len(document["choices"]) == len(whole.choices)
    choice = document["choices"][0]
    assert (choice["fits"], choice["uses_gpu"], choice["n_gpu_layers"], choice["n_layers"]) == (True, True, 3, 3)
    assert sum(device["weights_bytes"] for device in choice["devices"]) > 0
    assert choice["devices"][0]["budget_bytes"] == 64 << 20
    assert choice["llama_server"].startswith("llama-server -m ")


def test_a_person_reads_where_it_lies_and_how_the_context_is_shared(whole):
    lines = table(whole)
    assert "all 3 layers (blocks and output) on the GPU" in lines[0]
    assert lines[1] == "context 256 in all, 128 for each of 2 sequences"
    assert any(line.startswith("RAM ") for line in lines)
    assert any(line.startswith("answered by ") for line in lines)


def test_of_a_split_the_table_names_the_blocks_and_what_would_help(split):
    lines = table(split)
    assert "of 3 layers on the GPU (" in lines[0]
    assert lines[-1].startswith("whole on the GPU it lacks about ")


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_names_the_file_and_says_what_it_cannot(format_, whole, tiny):
    assert tiny in launch_block(whole, format_)
    assert launch_warnings(whole, format_) == []


def test_the_command_offers_every_format():
    (option,) = (parameter for parameter in command.params if parameter.name == "format_")
    assert list(option.type.choices) == ["table", "json", *FORMATS]


def test_what_a_format_cannot_say_of_a_plan_is_a_warning(whole):
    first, *others = whole.choices
    served = replace(first, settings=replace(first.settings, rpc=("10.0.0.2:50052",)))
    result = replace(whole, choices=(served, *others))
    assert [bool(launch_warnings(result, name)) for name in FORMATS] == [False, False, False, True, True]
