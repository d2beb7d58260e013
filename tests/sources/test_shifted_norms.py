"""Norms that have the 1 already which llama.cpp wants added: told by their numbers, and converted as they are where asked."""

import numpy
import pytest
from editable_checkpoint import write_safetensors
from lora_adapters import floats
from twins import changed_case

from toolkit.conversion.convert import write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.errors import TensorError
from toolkit.quant_profile import load_profile
from toolkit.sources.hf_source import source_from_checkpoint

CASES = ["gemma", "gemma2", "gemma3", "qwen3_5", "qwen3_next"]
SEEM = "the norms seem to have 1 added already"


def is_shifted(name):
    return "norm" in name and ".linear_attn." not in name


def norms(change, chosen=is_shifted):
    """Return an edit that applies `change` to the numbers of norms."""

    def edit(checkpoint):
        for name, (dtype, stored) in checkpoint.tensors.items():
            if is_shifted(name) and chosen(name):
                checkpoint.tensors[name] = ("F32", change(floats(dtype, stored)).astype("<f4"))

    return edit


plain, shifted = norms(lambda values: values), norms(lambda values: values + numpy.float32(1))


def converted(directory, **options):
    output = directory.parent / "out.gguf"
    write_gguf(plan_conversion(source_from_checkpoint(directory, **options), load_profile("bf16")), output)
    return output.read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_shifted_norms_are_refused_and_taken_as_they_are_where_that_is_said(case, tmp_path):
    expected = converted(changed_case(case, tmp_path / "plain", plain))
    directory = changed_case(case, tmp_path / "shifted", shifted)
    with pytest.raises(TensorError, match=rf"{SEEM}.*--norms shifted takes them as they are, --norms plain adds 1"):
        source_from_checkpoint(directory)
    assert converted(directory, norms="shifted") == expected


def test_an_export_of_mlx_with_its_kernels_turned_over_becomes_the_file_of_the_original(tmp_path):
    def exported(checkpoint):
        shifted(checkpoint)
        for name, (dtype, stored) in checkpoint.tensors.items():
            if name.endswith("conv1d.weight"):
                checkpoint.tensors[name] = (dtype, numpy.moveaxis(stored, 2, 1).copy())
        checkpoint.save()
        checkpoint.save = lambda: checkpoint.directory
        write_safetensors(checkpoint.directory / "model.safetensors", checkpoint.tensors, {"format": "mlx"})

    expected = converted(changed_case("qwen3_5", tmp_path / "plain", plain))
    directory = changed_case("qwen3_5", tmp_path / "mlx", exported)
    with pytest.raises(TensorError, match=SEEM):
        source_from_checkpoint(directory)
    assert converted(directory, norms="shifted") == expected


def test_whoever_says_that_they_are_plain_gets_the_1_added(tmp_path):
    directory = changed_case("qwen3_5", tmp_path / "a", shifted)
    twice = changed_case("qwen3_5", tmp_path / "b", norms(lambda values: values + numpy.float32(2)))
    assert converted(directory, norms="plain") == converted(twice, norms="shifted")


@pytest.mark.parametrize("case", ["gemma3", "qwen3_next"])
def test_a_mixture_of_shifted_and_plain_blocks_is_refused(case, tmp_path):
    some = norms(lambda values: values + numpy.float32(1), lambda name: ".layers.1." in name)
    with pytest.raises(
        TensorError, match=r"the norms of 1 of \d blocks seem to have 1 added already, those of the others"
    ):
        source_from_checkpoint(changed_case(case, tmp_path, some))


def trained(offset):
    """Return an edit to norms as trained Gemmas have them: some gains below 1 behind the first attention, larger ones later."""

    def edit(checkpoint):
        draw = numpy.random.default_rng(3)
        for name, (_, stored) in checkpoint.tensors.items():
            if is_shifted(name):
                block = int(name.split(".")[2]) if ".layers." in name else 9
                gain = 0.4 if block == 0 and "post_" in name else 4 + 20 * block
                values = draw.lognormal(numpy.log(gain), 0.6, stored.shape) - 1 + offset
                checkpoint.tensors[name] = ("F32", values.astype("<f4"))

    return edit


def test_large_gains_are_no_sign_of_a_shift_as_long_as_some_are_below_one(tmp_path):
    source = source_from_checkpoint(changed_case("gemma3", tmp_path, trained(0)))
    assert not any("norms" in warning for warning in source.warnings)


def test_large_gains_of_which_none_is_below_zero_are_shifted(tmp_path):
    with pytest.raises(TensorError, match=SEEM):
        source_from_checkpoint(changed_case("gemma3", tmp_path, trained(1)))


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_norms_of_a_fresh_model_are_plain(value, tmp_path):
    even = norms(lambda values: numpy.full_like(values, value))
    assert not any("norms" in text for text in source_from_checkpoint(changed_case("qwen3_5", tmp_path, even)).warnings)


def test_what_pytorch_wrote_is_taken_at_its_word_with_a_warning(tmp_path):
    directory = changed_case("gemma2", tmp_path / "a", shifted)
    expected = converted(directory, norms="plain")

    def rewrite(checkpoint):
        shifted(checkpoint)
        checkpoint.save()
        checkpoint.save = lambda: checkpoint.directory
        write_safetensors(checkpoint.directory / "model.safetensors", checkpoint.tensors, {"format": "pt"})

    directory = changed_case("gemma2", tmp_path / "b", rewrite)
    assert [warning for warning in source_from_checkpoint(directory).warnings if SEEM in warning]
    assert converted(directory) == expected


def test_the_commands_refuse_with_one_line_and_verify_what_was_said(run_command, tmp_path):
    directory = changed_case("gemma2", tmp_path, shifted)
    output = tmp_path / "out.gguf"
    refused = run_command("convert", directory, output, "--profile", "bf16")
    assert (refused.returncode, len(refused.stderr.splitlines()), output.exists()) == (2, 1, False)
    assert SEEM in refused.stderr
    done = run_command("convert", directory, output, "--profile", "bf16", "--norms", "shifted")
    assert done.returncode == 0, done.stderr
    verified = run_command("verify", output, "--source", directory, "--norms", "shifted", "--no-run", "--json")
    assert verified.returncode == 0, verified.stderr
    wrong = run_command("verify", output, "--source", directory, "--norms", "plain", "--no-run", "--json")
    assert (wrong.returncode, f"does not match {directory}: weights" in wrong.stderr) == (1, True)
