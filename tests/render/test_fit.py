"""A file that fits, with its proof."""

import json
from dataclasses import replace

import pytest

import toolkit
from toolkit.render.fit import fit_document, fit_lines


@pytest.fixture(scope="module")
def result(kit_checkpoint, license_text, tmp_path_factory):
    return toolkit.fit(
        str(kit_checkpoint("llama3")),
        vram="16MiB",
        n_ctx=64,
        text=license_text,
        chunks=2,
        repetitions=1,
        profiles=["q8_0", "q4_0"],
        max_ppl_increase=900.0,
        output=tmp_path_factory.mktemp("fit") / "m.gguf",
    )


def test_a_person_reads_what_it_takes_what_it_lost_and_how_to_run_it(result):
    lines = fit_lines(result)
    assert lines[0].startswith(f"{result.launch.path}: Q8_0, ")
    assert "; whole on the GPU at a context of 64 with " in lines[0]
    assert lines[2].split() == ["memory", "weights", "KV", "cache", "compute", "total", "budget"]
    assert [line.split()[0] for line in lines[3:5]] == ["GPU", "RAM"]
    assert any(line.startswith("allocated on the GPU when loaded: ") for line in lines)
    assert any(line.startswith("perplexity ") and "unquantized" in line for line in lines)
    assert any("CPU only: llama-cpp-python sees no GPU here" in line for line in lines)
    assert any(line.split()[:1] == ["runner-up"] for line in lines)
    server = lines.index("run it:") + 1
    assert lines[server].startswith(f"  llama-server -m {result.launch.path} ")
    assert lines[server + 1].startswith("  llama_cpp.Llama(model_path=")
    assert lines[-1].startswith("took ")


def test_profiles_that_lost_too_much_are_named(result):
    lines = fit_lines(replace(result, rejected=(result.trial,)))
    assert any(line.startswith("rejected Q8_0: perplexity grew by ") for line in lines)
    (rejected,) = fit_document(replace(result, rejected=(result.trial,)))["rejected"]
    assert rejected["profile"] == "Q8_0"


def test_what_a_build_does_not_tell_of_allocations_is_said(result):
    silent = replace(result, trial=replace(result.trial, allocated=None))
    assert any(line.startswith("what was allocated is not known") for line in fit_lines(silent))
    assert fit_document(silent)["allocated_bytes"] is None


def test_a_script_reads_choices_bytes_quality_and_rates(result):
    document = json.loads(json.dumps(fit_document(result), allow_nan=False))
    assert document["output"] == str(result.launch.path)
    assert document["choices"][0]["profile"] == "Q8_0"
    assert document["allocated_bytes"] == document["predicted_bytes"] > 0
    assert document["perplexity"] > 1
    assert document["measured_on"] == "CPU"
    assert document["verdict"] is None
    assert document["llama_server"].startswith("llama-server -m ")
