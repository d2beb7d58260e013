"""Embedders: no head is needed, and the layers after pooling go into the file on request."""

import json

import numpy
import pytest
from architectures.encoders import embedding_gemma, qwen3_embedding
from editable_checkpoint import write_safetensors
from twins import changed_case, convert_edited, gguf_of, value

from toolkit.conversion.convert import ConversionOptions, write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.errors import CheckpointError, TensorError
from toolkit.gguf.reader import read_gguf
from toolkit.llama.runtime import LlamaRuntime
from toolkit.quant_profile import load_profile
from toolkit.sources.hf_source import source_from_checkpoint

MIDDLE = 512


def add_dense(directory, shapes, activation="torch.nn.modules.linear.Identity", names=("linear.weight",)):
    modules = json.loads((directory / "modules.json").read_text(encoding="utf-8"))
    draw = numpy.random.default_rng(1)
    written = []
    for number, shape in enumerate(shapes, start=2):
        folder = directory / f"{number}_Dense"
        folder.mkdir()
        modules.append({"idx": number, "path": folder.name, "type": "sentence_transformers.models.Dense"})
        config = {"in_features": shape[1], "out_features": shape[0], "bias": False, "activation_function": activation}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        matrix = draw.standard_normal(shape).astype(numpy.float32)
        write_safetensors(folder / "model.safetensors", dict.fromkeys(names, ("F32", matrix)))
        written.append(matrix)
    (directory / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    return written


def embedder(root, *shapes, **options):
    directory = changed_case("gemma3", root, embedding_gemma)
    length = json.loads((directory / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    return directory, add_dense(directory, shapes or ((MIDDLE, length), (length, MIDDLE)), **options)


def test_layers_after_pooling_go_into_the_file_under_the_names_that_llama_cpp_runs(tmp_path):
    directory, written = embedder(tmp_path)
    source = source_from_checkpoint(directory, dense_modules=True)
    assert not [line for line in source.warnings if "after pooling" in line]
    output = tmp_path / "dense.gguf"
    write_gguf(plan_conversion(source, load_profile("f32")), output, ConversionOptions(threads=1))
    file = read_gguf(output)
    for matrix, name in zip(written, ("dense_2", "dense_3"), strict=True):
        rows = file.tensors[f"{name}.weight"]
        assert numpy.array_equal(rows.read_rows(0, len(matrix)).view("<f4"), matrix)
        assert value(file, f"gemma-embedding.{name}_feat_out") == matrix.shape[0]
        assert value(file, f"gemma-embedding.{name}_feat_in") == matrix.shape[1]
    with LlamaRuntime(output) as model:
        assert model.n_layer


def test_without_the_option_they_are_left_out_with_a_line(tmp_path):
    directory, _ = embedder(tmp_path)
    source = source_from_checkpoint(directory)
    assert not [tensor.name for tensor in source.tensors if tensor.name.startswith("dense")]
    assert [line for line in source.warnings if "--dense-modules" in line]


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((64, 64),), {}, "runs two layers after pooling"),
        (((64, 64), (64, 64)), {}, r"shapes \[64, 64\] and \[64, 64\], expected \[n, "),
        ((), {"activation": "torch.nn.modules.activation.Tanh"}, "with activation Tanh"),
        ((), {"names": ("linear.weight", "linear.bias")}, r"linear\.bias, linear\.weight with activation"),
    ],
)
def test_layers_that_llama_cpp_does_not_run_are_refused(shapes, options, message, tmp_path):
    directory, _ = embedder(tmp_path, *shapes, **options)
    with pytest.raises(CheckpointError, match=message):
        source_from_checkpoint(directory, dense_modules=True)


def test_a_model_that_has_none_is_refused_with_the_option(tmp_path):
    with pytest.raises(CheckpointError, match="this is llama with 0"):
        source_from_checkpoint(changed_case("llama2", tmp_path), dense_modules=True)


def test_an_embedder_needs_no_head_whatever_its_config_says(tmp_path):
    def untied(checkpoint):
        qwen3_embedding(checkpoint)
        checkpoint.config["tie_word_embeddings"] = False
        checkpoint.tensors.pop("lm_head.weight", None)

    assert "output.weight" not in gguf_of("qwen3", tmp_path, untied).tensors


def test_a_model_that_does_not_pool_still_needs_one(tmp_path):
    def untied(checkpoint):
        checkpoint.config["tie_word_embeddings"] = False
        checkpoint.tensors.pop("lm_head.weight", None)

    with pytest.raises(TensorError, match=r"lm_head\.weight is missing"):
        convert_edited(changed_case("qwen3", tmp_path, untied))
