from pathlib import Path

from tiny_model import write_tiny_model

from toolkit.llama.bad_weights import find_bad_weights


def test_the_tensor_with_a_nan_is_named(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", bad_tensor="blk.1.ffn_up.weight")
    assert list(find_bad_weights(path)) == ["blk.1.ffn_up.weight"]


def test_sound_weights_are_not_suspected(tmp_path: Path) -> None:
    assert list(find_bad_weights(write_tiny_model(tmp_path / "m.gguf"))) == []
