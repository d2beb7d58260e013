"""The command `profiles`: what a person reads, and what a script reads."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from toolkit.cli.profiles import command
from toolkit.errors import ProfileError
from toolkit.quant_profile import EXAMPLE_MODELS, profile_names

GOOD = 'name = "mine"\nfile_type = "MOSTLY_Q4_K_M"\ndefault = "Q4_K"\n[[rules]]\nrole = "output"\ntype = "Q6_K"\n'


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False)


def test_list_names_every_profile_from_small_to_large() -> None:
    lines = run("list").stdout.splitlines()[1:]
    assert sorted(line.split()[0] for line in lines) == profile_names()
    bits = [float(line.split()[1]) for line in lines]
    assert bits == sorted(bits)
    assert "Q4_K_M" in next(line for line in lines if " 4.84 " in line)
    assert "needed" in next(line for line in lines if line.startswith("IQ2_XXS"))


def test_list_is_one_json_document() -> None:
    document = json.loads(run("list", "--json").stdout)
    assert document["schema"] == "gguf-toolkit/profiles/2"
    by_name = {profile["name"]: profile for profile in document["profiles"]}
    assert by_name["Q8_0"]["bits_per_weight"] == pytest.approx(8.5, abs=0.01)
    assert by_name["IQ1_S"]["needs_imatrix"] is True
    assert by_name["Q4_K_M"]["file_type"] == "MOSTLY_Q4_K_M"


def test_show_prints_rules_and_types() -> None:
    output = run("show", "q4_k_m", "--model", "llama-3.1-8b").stdout
    assert "  2. Q6_K for output\n" in output
    assert "else Q4_K\n" in output
    assert "Llama 3.1 8B without an importance matrix:" in output
    assert "ffn_gate     Q4_K\n" in output
    assert "ffn_down     Q6_K in 0-3, 6, 9," in output


def test_show_says_where_types_fell_back() -> None:
    assert "attn_q       Q5_0 (for Q4_K)\n" in run("show", "q4_k_m", "--model", "smollm2-135m").stdout


def test_show_can_assume_an_importance_matrix() -> None:
    assert "ffn_down     Q4_1 in 0-3; Q4_0 in 4-31\n" in run("show", "q4_0", "--imatrix").stdout
    assert "ffn_down     Q4_0\n" in run("show", "q4_0").stdout
    assert "with an importance matrix" in run("show", "iq2_xs").stdout


def test_show_is_one_json_document_with_every_tensor() -> None:
    document = json.loads(run("show", "mxfp4_moe", "--model", "mixtral-8x7b", "--json").stdout)
    tensors = {tensor["name"]: tensor for tensor in document["tensors"]}
    assert tensors.keys() == {name for name, _ in EXAMPLE_MODELS["mixtral-8x7b"].tensors()}
    assert tensors["blk.0.ffn_up_exps.weight"] == {
        "name": "blk.0.ffn_up_exps.weight",
        "shape": [8, 14336, 4096],
        "type": "MXFP4",
        "fallback_from": None,
        "needs_imatrix": False,
        "why": "ffn_up, ffn_gate and ffn_down of all experts together",
    }
    assert document["rules"][0] == "Q8_0 for output"


def test_show_takes_a_file_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD, "utf-8")
    output = run("show", str(path)).stdout
    assert output.startswith("mine: no summary (MOSTLY_Q4_K_M)\n")
    assert "output       Q6_K\n" in output


def test_check_accepts_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD, "utf-8")
    assert f"{path}: mine is good: 1 rule, 4.5" in run("check", str(path)).stdout
    document = json.loads(run("check", str(path), "--json").stdout)
    assert (document["name"], document["rules"], document["default"]) == ("mine", 1, "Q4_K")


def test_check_refuses_a_wrong_file_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_text(GOOD.replace("role", "rule"), "utf-8")
    with pytest.raises(ProfileError, match="line 5: unknown key 'rule'; did you mean role"):
        run("check", str(path))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ProfileError, match="there is no profile 'q4_k_x'; did you mean"):
        run("show", "q4_k_x")


@pytest.mark.parametrize("arguments", [["--help"], ["list", "--help"], ["show", "--help"], ["check", "--help"]])
def test_every_part_has_help(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
