import json

import pytest

from toolkit.errors import CheckpointError
from toolkit.sources.pooling import dense_folders, left_out_modules, pooling_metadata

MODULES = [
    {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def pooling(directory, config, modules=MODULES):
    (directory / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return {key: value.value for key, value in pooling_metadata(directory, "bert").items()}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"pooling_mode_mean_tokens": True}, 1),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, 2),
        ({"pooling_mode_lasttoken": True}, 3),
        ({"pooling_mode": "cls"}, 2),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, 1),
    ],
)
def test_the_way_of_pooling_becomes_llama_cpps_number(config, expected, tmp_path):
    assert pooling(tmp_path, config) == {"bert.pooling_type": expected}


def test_a_checkpoint_without_such_files_says_nothing(tmp_path):
    assert pooling_metadata(tmp_path, "bert") == {}


@pytest.mark.parametrize("modules", [MODULES[:1], [], {}, ["text"]])
def test_modules_without_pooling_say_nothing(modules, tmp_path):
    assert pooling(tmp_path, {}, modules) == {}


def test_a_way_that_llama_cpp_does_not_have_is_refused(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"modes pooling_mode_max_tokens; llama\.cpp pools by mean, cls, lasttoken"
    ):
        pooling(tmp_path, {"pooling_mode_max_tokens": True})


def test_a_missing_config_of_the_pooling_is_named(tmp_path):
    (tmp_path / "modules.json").write_text(json.dumps(MODULES), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"modules\.json names 1_Pooling/config\.json, which is missing"):
        pooling_metadata(tmp_path, "bert")


@pytest.mark.parametrize("path", ["../2_Dense", "/2_Dense", "a/../../b", "..\\b"])
def test_layers_outside_the_checkpoint_are_refused(path, tmp_path):
    dense = [{"idx": 2, "path": path, "type": "sentence_transformers.models.Dense"}]
    (tmp_path / "modules.json").write_text(json.dumps(MODULES + dense), encoding="utf-8")
    with pytest.raises(CheckpointError, match="outside the checkpoint directory"):
        dense_folders(tmp_path)


def test_layers_after_pooling_are_warned_of(tmp_path):
    assert left_out_modules(tmp_path) == ()
    dense = [{"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"}]
    (tmp_path / "modules.json").write_text(json.dumps(MODULES + dense), encoding="utf-8")
    (warning,) = left_out_modules(tmp_path)
    assert warning.startswith("2_Dense: layers after pooling, left out")
