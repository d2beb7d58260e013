"""What the list of formats promises about each of them."""

import pytest

from toolkit.checkpoint.checkpoint import Checkpoint
from toolkit.errors import CheckpointError
from toolkit.hub.model import needed_files
from toolkit.quantized_sources.registry import FORMATS, decode_checkpoint, find_declaration


def test_no_name_means_two_formats():
    names = [name for format_ in FORMATS for name in (*format_.names, *format_.older_names)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("format_", [each for each in FORMATS if each.file], ids=lambda each: each.names[0])
def test_a_file_that_declares_a_format_is_found_and_downloaded(format_, tmp_path):
    (tmp_path / format_.file).write_text('{"bits": 4}', encoding="utf-8")
    declaration = find_declaration(tmp_path, {})
    assert (declaration.method, declaration.file) == (format_.names[0], format_.file)
    assert format_.file in needed_files(["config.json", format_.file, "model.safetensors"]).description


@pytest.mark.parametrize("older_name", ["intel/auto-round", "auto_round", "AutoRound"])
def test_older_names_of_a_method_mean_the_newest(older_name, tmp_path):
    assert find_declaration(tmp_path, {"quantization_config": {"quant_method": older_name}}).method == "auto-round"


@pytest.mark.parametrize(
    ("name", "libraries"),
    [
        ("a.qweight", "GPTQ or AWQ"),
        ("a.scales", "GPTQ, AWQ or MLX"),
        ("a.weight_scale", "FP8 or compressed-tensors"),
        ("a.codebooks", "AQLM"),
        ("a._weight_qdata", "torchao"),
    ],
)
def test_a_packed_tensor_that_nothing_declares_is_refused_with_the_libraries_that_write_it(name, libraries, tmp_path):
    checkpoint = Checkpoint(tmp_path, {}, {name: None})
    with pytest.raises(
        CheckpointError, match=rf"^{name} belongs to a quantized checkpoint \({libraries}\), but config"
    ):
        decode_checkpoint(checkpoint)
