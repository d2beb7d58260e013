import json

from click.testing import CliRunner

from toolkit.architectures import known_architectures
from toolkit.cli import cli


def run(*arguments):
    shown = CliRunner(catch_exceptions=False).invoke(cli, ["architectures", *arguments])
    assert shown.exit_code == 0
    return shown.output


def test_every_class_is_listed_with_its_model_type_and_llama_cpps_name():
    lines = run().splitlines()
    assert len(lines) == 1 + len(known_architectures())
    assert next(line for line in lines if "OlmoeForCausalLM" in line).split() == ["OlmoeForCausalLM", "olmoe", "olmoe"]


def test_a_text_narrows_the_list_to_what_contains_it():
    assert {line.split()[-1] for line in run("GEMMA3").splitlines()[1:]} == {"gemma3", "gemma3n"}


def test_the_json_document_says_the_same():
    document = json.loads(run("--json"))
    assert document["schema"] == "gguf-toolkit/architectures/1"
    mixtral = next(one for one in document["architectures"] if "MixtralForCausalLM" in one["classes"])
    assert (mixtral["name"], mixtral["model_types"]) == ("llama", ["mixtral"])
    assert len(document["architectures"]) == len(known_architectures())
