"""What `--tensor-type` does to tensors that it does not name is llama.cpp's doing, and said."""

import json

import pytest

from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.demo import checkpoint_directory
from toolkit.quant_profile import load_profile, parse_override
from toolkit.sources.hf_source import source_from_checkpoint


def remarks(profile, *overrides):
    source = source_from_checkpoint(checkpoint_directory("demo"))
    return plan_conversion(
        source, load_profile(profile), overrides=[parse_override(text) for text in overrides]
    ).remarks


def test_naming_what_the_mixture_gives_anyway_names_the_others_that_change():
    (remark,) = remarks("q4_k_m", "blk.0.ffn_down=q6_k")
    assert remark == (
        "--tensor-type changes 4 tensors that it does not name, since llama.cpp leaves those that it names out of its count of "
        "layers: blk.1.ffn_down.weight (Q6_K for Q4_K), blk.3.ffn_down.weight (Q4_K for Q6_K), "
        "blk.4.ffn_down.weight (Q6_K for Q4_K) and 1 more"
    )


@pytest.mark.parametrize(
    ("profile", "override"),
    [
        ("q4_k_m", "ffn_down=q6_k"),
        ("q4_k_m", "blk.0.ffn_gate=q8_0"),
        ("q8_0", "blk.0.ffn_down=q6_k"),
        ("keep", "attn_v=q8_0"),
    ],
)
def test_nothing_is_said_where_no_other_tensor_changes(profile, override):
    assert remarks(profile, override) == ()


def test_the_command_says_it_once_beside_the_types(run_command):
    done = run_command("convert", "demo", "--dry-run", "--json", "--tensor-type", "blk.0.ffn_down=q6_k")
    types = {tensor["name"]: tensor["type"] for tensor in json.loads(done.stdout)["tensors"]}
    assert types["blk.1.ffn_down.weight"] == "Q6_K"
    assert [
        line for line in done.stderr.splitlines() if "--tensor-type changes 4 tensors" in line
    ] == done.stderr.splitlines()
