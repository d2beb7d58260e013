"""`toolkit.convert`, as a Python user calls it."""

import pytest

import toolkit
from toolkit.errors import CheckpointError, InputError, ProfileError


def test_a_checkpoint_becomes_a_file_that_is_called_after_it_and_its_profile(kit_checkpoint, tmp_path):
    result = toolkit.convert(str(kit_checkpoint("llama3")), str(tmp_path), profile="q8_0")
    (path,) = result.paths
    assert (path.parent, path.name.endswith("-Q8_0.gguf"), result.written) == (tmp_path, True, True)
    assert result.file_bytes == path.stat().st_size
    assert result.source.metadata["general.architecture"].value == "llama"
    assert toolkit.inspect(path).summary.file_type == "Q8_0"


def test_a_dry_run_plans_the_embedded_model_and_writes_nothing(tmp_path):
    result = toolkit.convert("demo", tmp_path / "demo.gguf", profile="q4_k_m", dry_run=True)
    assert (result.written, list(tmp_path.iterdir())) == (False, [])
    assert 4 < result.plan.bits_per_weight < 7


def test_name_metadata_and_template_may_be_given(kit_checkpoint, tmp_path):
    (tmp_path / "mine.jinja").write_text("{{ messages[0].content }}", "utf-8")
    result = toolkit.convert(
        kit_checkpoint("llama3"),
        tmp_path / "m.gguf",
        profile="bf16",
        model_name="Mine",
        metadata=["author=Me"],
        chat_template=str(tmp_path / "mine.jinja"),
    )
    metadata = result.plan.metadata
    assert (metadata["general.name"].value, metadata["general.author"].value) == ("Mine", "Me")
    assert metadata["tokenizer.chat_template"].value == "{{ messages[0].content }}"


def test_a_reporter_hears_of_the_file_that_is_written(kit_checkpoint, heard, tmp_path):
    request = toolkit.ConvertRequest(kit_checkpoint("llama3"), tmp_path / "m.gguf", profile="bf16")
    toolkit.convert(request, heard)
    assert heard.tasks == ["m.gguf"]


def test_what_cannot_be_converted_is_an_error_and_leaves_nothing(kit_checkpoint, tmp_path):
    output = tmp_path / "m.gguf"
    with pytest.raises((CheckpointError, InputError)):
        toolkit.convert(tmp_path / "absent", output)
    with pytest.raises(ProfileError):
        toolkit.convert(kit_checkpoint("llama3"), output, profile="q9_k_xxl")
    with pytest.raises(InputError, match="needs --moments"):
        toolkit.convert(kit_checkpoint("llama3"), output, rounding="calibrated")
    assert list(tmp_path.iterdir()) == []
