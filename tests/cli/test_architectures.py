import json

from click.testing import CliRunner

from toolkit.architectures import known_architectures
from toolkit.architectures.evidence import REFUSED
from toolkit.cli import cli


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
    assert document["schema"] == "gguf-toolkit/architectures/1"
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
