import json

from click.testing import CliRunner

from toolkit.architectures import known_architectures
from toolkit.architectures.refused import REFUSED
from toolkit.cli import cli
from toolkit.render.architectures import architecture_document, architecture_lines
from toolkit.verbs.show_architecture import ShowArchitectureResult


def run(*arguments):
    shown = CliRunner(catch_exceptions=False).invoke(cli, ["architectures", *arguments])
    assert shown.exit_code == 0
    return shown.stdout


def test_every_class_is_listed_with_its_model_type_and_llama_cpps_name():
    lines = run().splitlines()
    assert len(lines) == 1 + len(known_architectures())
    found = next(line for line in lines if "OlmoeForCausalLM" in line).split()
    assert found == ["olmo", "OlmoeForCausalLM", "olmoe", "olmoe", "compared"]


def test_a_text_narrows_the_list_to_what_contains_it():
    assert {line.split()[-2] for line in run("GEMMA3").splitlines()[1:]} == {"gemma3", "gemma3n", "gemma-embedding"}


def test_the_json_document_says_the_same():
    document = json.loads(run("--json"))
    assert document["schema"] == "gguf-toolkit/architectures/2"
    mixtral = next(one for one in document["architectures"] if "MixtralForCausalLM" in one["classes"])
    assert (mixtral["name"], mixtral["model_types"]) == ("llama", ["mixtral"])
    assert (mixtral["family"], mixtral["status"]) == ("mixtral", "compared")
    assert len(document["architectures"]) == len(known_architectures())
    assert {one["class"]: one["reason"] for one in document["refused"]} == REFUSED


def test_members_of_a_family_stand_together():
    families = [line.split()[0] for line in run().splitlines()[1:]]
    assert families == sorted(families)
    assert families.count("gemma") >= 5


def test_what_is_refused_is_listed_with_its_reason():
    lines = run("--refused", "chatglm").splitlines()[1:]
    assert {line.split()[0] for line in lines} == {"ChatGLMModel", "ChatGLMForConditionalGeneration"}
    assert all("Python code" in line for line in lines)


def test_an_architecture_shows_how_its_tensors_get_into_the_file():
    lines = run("show", "orion").splitlines()
    assert "in llama.cpp          orion" in lines
    rows = [line.split() for line in lines]
    assert ["model.layers.N.self_attn.q_proj.weight", "blk.N.attn_q.weight"] in [row[:2] for row in rows]
    assert "keys not written      rope" in lines


def test_the_document_of_an_architecture_has_the_names_of_the_rules():
    (document,) = json.loads(run("show", "OrionForCausalLM", "--json"))["architectures"]
    assert (document["name"], document["epsilon"]) == ("orion", "layer_norm_eps")
    assert "blk.{layer}.attn_norm.bias" in [tensor["target"] for tensor in document["tensors"]]


def test_every_architecture_can_be_shown_as_text_and_as_json():
    result = ShowArchitectureResult(known_architectures())
    assert len(architecture_lines(result)) > sum(len(known.tensors) for known in known_architectures())
    json.dumps(architecture_document(result))
