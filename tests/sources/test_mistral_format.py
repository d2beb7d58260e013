"""Mistral's own format gives the file of the Hugging Face checkpoint that holds the same model."""

import json

import numpy
import pytest
from architectures.variants import mistral_format
from mistral_checkpoint import as_mistral_format
from quantized_sources.test_fp8 import codes_of, decoded
from twins import changed_case, convert_edited, file_of, gguf_of, value

from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.errors import CheckpointError, TensorError
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.verification import Outcome, Reference, run_checks


def mistral(root, change=lambda _checkpoint: None):
    def both(checkpoint):
        as_mistral_format(checkpoint)
        change(checkpoint)

    return changed_case("mistral", root, both)


def params(**changes):
    """Return a change of params.json: a key given as ... is removed."""

    def change(checkpoint):
        checkpoint.config |= changes
        checkpoint.config = {key: setting for key, setting in checkpoint.config.items() if setting is not ...}

    return change


def test_the_file_is_that_of_the_hugging_face_checkpoint(tmp_path):
    assert convert_edited(mistral(tmp_path / "own")).read_bytes() == file_of("mistral", tmp_path / "plain")


def test_it_passes_every_check_against_its_source(tmp_path):
    directory = mistral(tmp_path)
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer.model").rename(directory / "tokenizer.model.v3")
    path = convert_edited(directory, "q8_0")
    found = run_checks(path, Reference(source_from_checkpoint(directory), directory))
    assert {check.outcome for check in found} == {Outcome.PASS}
    assert "tokenizer.model.v3 through sentencepiece" in next(one.evidence for one in found if one.name == "token ids")


def test_its_own_vocabulary_is_checked_by_rank(tmp_path):
    directory = changed_case("mistral_nemo", tmp_path, mistral_format)
    path = convert_edited(directory, "q8_0")
    found = run_checks(path, Reference(source_from_checkpoint(directory), directory))
    assert {check.outcome for check in found} == {Outcome.PASS}
    assert "tekken.json by rank" in next(one.evidence for one in found if one.name == "token ids")


def test_shards_are_those_that_the_index_names(tmp_path):
    directory = mistral(tmp_path / "own")
    first, index = "consolidated-00001-of-00001.safetensors", directory / "consolidated.safetensors.index.json"
    (directory / "consolidated.safetensors").rename(directory / first)
    names = list(open_checkpoint(directory).tensors)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, first)}), encoding="utf-8")
    assert convert_edited(directory).read_bytes() == file_of("mistral", tmp_path / "plain")
    absent = {"weight_map": {"tok_embeddings.weight": "consolidated-00002-of-00002.safetensors"}}
    index.write_text(json.dumps(absent), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"index\.json names consolidated-00002-of-00002\.safetensors, absent"):
        source_from_checkpoint(directory)


def test_fp8_weights_are_multiplied_by_the_scale_of_mistrals_naming(tmp_path):
    name = "layers.0.attention.wq"

    def quantized(checkpoint):
        codes, scale = codes_of(checkpoint.tensors[f"{name}.weight"][1].shape), numpy.array(0.003, dtype="<f4")
        checkpoint.tensors[f"{name}.weight"] = ("F8_E4M3", codes)
        checkpoint.tensors |= {f"{name}.qscale_weight": ("F32", scale), f"{name}.qscale_act": ("F32", scale)}
        checkpoint.config["quantization"] = {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}

    def plain(checkpoint):
        codes = codes_of(checkpoint.tensors[f"{name}.weight"][1].shape)
        checkpoint.tensors[f"{name}.weight"] = ("F32", decoded(codes) * numpy.float32(0.003))

    ours, twin = (
        convert_edited(mistral(tmp_path / each.__name__, each), "f32").read_bytes() for each in (quantized, plain)
    )
    assert ours == twin


def test_the_vision_part_is_left_out_and_named(tmp_path):
    def with_eyes(checkpoint):
        for name in ("vision_encoder.patch_conv", "vision_language_adapter.w_in", "pre_mm_projector_norm"):
            checkpoint.tensors[f"{name}.weight"] = ("F32", numpy.zeros((8, 8), "<f4"))
        checkpoint.config["vision_encoder"] = {"hidden_size": 8}

    directory = mistral(tmp_path / "own", with_eyes)
    assert "left out 3 tensors (768 B): vision or audio tensors" in source_from_checkpoint(directory).warnings
    assert convert_edited(directory).read_bytes() == file_of("mistral", tmp_path / "plain")


def test_what_the_file_leaves_open_is_taken_as_transformers_converter_takes_it_and_said(tmp_path):
    directory = mistral(tmp_path, params(max_position_embeddings=..., rope_theta=..., sliding_window=64, n_kv_heads=2))
    notes = source_from_checkpoint(directory).notes
    assert "params.json does not say how long a context the model was made for: 32768 tokens are taken" in notes
    file = gguf_of("mistral", tmp_path / "b", lambda one: (as_mistral_format(one), params(rope_theta=5e5)(one)))
    assert value(file, "llama.rope.freq_base") == 5e5
    assert value(file, "llama.context_length") == 256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"moe": {"num_experts": 8}},
            "a mixture of experts, which is not read from there; take its Hugging Face files",
        ),
        ({"yarn": {"factor": 16}}, "yarn scaling"),
        ({"multimodal": {"whisper_model_args": {}}}, "an audio or vision part"),
        ({"model_type": "mamba"}, "model_type 'mamba'"),
        ({"rope_theta": ...}, "no rope_theta"),
        (
            {"quantization": {"qformat_weight": "int4"}},
            "the quantization {'qformat_weight': 'int4'}, which is not read",
        ),
    ],
)
def test_other_kinds_are_refused_with_the_way_out(changes, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        source_from_checkpoint(mistral(tmp_path, params(**changes)))


def test_an_output_that_is_missing_is_named_as_the_format_names_it(tmp_path):
    directory = mistral(tmp_path, lambda one: one.tensors.pop("output.weight"))
    with pytest.raises(TensorError, match=r"output\.weight is missing though tie_word_embeddings is false"):
        source_from_checkpoint(directory)


def test_weights_that_only_their_makers_code_reads_come_with_advice(tmp_path):
    (tmp_path / "params.json").write_text("{}", encoding="utf-8")
    (tmp_path / "consolidated.00.pth").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"holds consolidated\.00\.pth, .* take the model's Hugging Face files"):
        source_from_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("inspect", ()),
        ("plan", ("--vram", "1GiB", "--ram", "1GiB", "--ctx", "256", "-p", "q8_0", "--no-cache")),
        ("convert", ("--dry-run",)),
    ],
)
def test_the_commands_take_such_a_folder(command, options, run_command, tmp_path):
    done = run_command(command, mistral(tmp_path), *options, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
