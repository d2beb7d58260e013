import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from altered_gguf import altered
from demo_model import convert_demo

from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.comparison.candidates import (
    Conversions,
    candidate_from_file,
    candidate_from_profile,
    candidates_from_files,
    candidates_from_profiles,
)
from toolkit.conversion.convert import ConversionOptions
from toolkit.demo import demo_checkpoint
from toolkit.errors import InputError
from toolkit.gguf.format import uint32
from toolkit.importance.matrix import Imatrix
from toolkit.sources.hf_source import source_from_checkpoint


@pytest.fixture(scope="module")
def conversions() -> Conversions:
    return Conversions(source_from_checkpoint(demo_checkpoint()), demo_checkpoint())


def test_a_profile_becomes_a_file_when_it_is_opened_and_is_gone_afterwards(conversions: Conversions) -> None:
    candidate = candidate_from_profile(conversions, "q4_0")
    assert (candidate.name, candidate.path, candidate.is_unquantized) == ("Q4_0", None, False)
    assert candidate.bits_per_weight == pytest.approx(5, abs=0.6)
    with candidate.make_file() as path:
        assert path.stat().st_size == candidate.file.file_bytes
    assert not path.exists()
    assert candidate_from_profile(conversions, "bf16").is_unquantized


def test_a_file_is_unquantized_by_its_tensors_whatever_its_file_type_says(
    tiny: str, tiny_q8_0: str, tmp_path: Path
) -> None:
    nameless = altered(Path(tiny), tmp_path / "nameless.gguf", without_keys=("general.file_type",))
    misnamed = altered(Path(tiny_q8_0), tmp_path / "misnamed.gguf", {"general.file_type": uint32(1)})
    assert [candidate_from_file(file, "x").is_unquantized for file in (nameless, misnamed)] == [True, False]


def test_a_kept_file_stays_and_is_not_made_twice(conversions: Conversions, tmp_path: Path) -> None:
    [kept] = candidates_from_profiles(replace(conversions, keep=tmp_path), ["q4_0"])
    with kept.make_file() as path:
        made = path.stat().st_mtime_ns
    assert path == kept.path == tmp_path / "Demo-5.2M-Q4_0.gguf"
    with kept.make_file() as again:
        assert again.stat().st_mtime_ns == made


def test_another_file_of_that_name_is_replaced_only_when_forced(conversions: Conversions, tmp_path: Path) -> None:
    (tmp_path / "Demo-5.2M-Q4_0.gguf").write_bytes(b"mine")
    keeping = replace(conversions, keep=tmp_path)
    with pytest.raises(InputError, match="--force"), candidate_from_profile(keeping, "q4_0").make_file():
        pass
    forced = replace(keeping, options=ConversionOptions(force=True))
    with candidate_from_profile(forced, "q4_0").make_file() as path:
        assert path.read_bytes()[:4] == b"GGUF"


def test_contents_are_told_apart_by_profile_and_importance_and_not_by_place(
    conversions: Conversions, tmp_path: Path
) -> None:
    matrix = tmp_path / "i.dat"
    matrix.write_bytes(b"importance")
    names = [tensor.name for tensor in conversions.source.tensors if "ffn_down" in tensor.name]
    entries = {name: numpy.ones(512, numpy.float32) for name in names}
    weighed = replace(conversions, imatrix=Imatrix(matrix, entries, 1))
    shapes = {tensor.name: tensor.shape for tensor in conversions.source.tensors}
    assert {shapes[name][-1] for name in names} == {512}
    contents = {
        candidate_from_profile(conversions, "q4_k_m").digest,
        candidate_from_profile(conversions, "q4_k_s").digest,
        candidate_from_profile(weighed, "q4_k_m").digest,
    }
    assert len(contents) == 3
    elsewhere = replace(conversions, keep=tmp_path)
    assert candidate_from_profile(elsewhere, "q4_k_m").digest in contents


def test_files_have_the_shortest_names_that_tell_them_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    one = convert_demo(tmp_path / "a", "q8_0")
    same = one.rename(tmp_path / "a" / "model.gguf")
    other = convert_demo(tmp_path / "b", "q4_0").rename(tmp_path / "b" / "model.gguf")
    alone = convert_demo(tmp_path, "bf16")
    found = candidates_from_files([same, other, alone])
    assert [candidate.name for candidate in found] == [str(same), str(other), "demo-bf16"]
    assert [candidate.is_unquantized for candidate in found] == [False, False, True]
    with found[0].make_file() as path:
        assert path == same
    with pytest.raises(InputError, match="is given twice"):
        candidates_from_files([same, tmp_path / "b" / ".." / "a" / "model.gguf"])


def test_weights_in_a_folder_of_the_checkpoint_count_and_those_that_are_not_read_do_not(tmp_path: Path) -> None:
    shutil.copytree(demo_checkpoint(), tmp_path, dirs_exist_ok=True)
    (tmp_path / "parts").mkdir()
    weights = (tmp_path / "model.safetensors").rename(tmp_path / "parts" / "a.safetensors")
    stored = open_checkpoint(demo_checkpoint()).tensors
    index = {"weight_map": dict.fromkeys(stored, "parts/a.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")

    def content() -> str:
        return candidate_from_profile(Conversions(source_from_checkpoint(tmp_path), tmp_path), "q8_0").digest

    before = content()
    (tmp_path / "pytorch_model.bin").write_bytes(b"another set")
    assert content() == before
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert content() != before
