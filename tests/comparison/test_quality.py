from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_model import TinyShape, write_tiny_model

from toolkit.comparison import quality
from toolkit.comparison.quality import BaseModel, ModelFile, TextRequest, measure_quality
from toolkit.errors import QualityError, TextError
from toolkit.llama.run_settings import RunSettings
from toolkit.measures.evaluation_text import EvaluationText
from toolkit.reporter import LoggingReporter

TEXT = EvaluationText("a text", "the art of war and an inner sea. " * 30, "ab" * 32)
REQUEST = TextRequest("general", TEXT, 32, 12)


def model_file(path: Path) -> ModelFile:
    def settings(n_ctx: int, together: int) -> RunSettings:
        return RunSettings(
            n_ctx=n_ctx * together, n_batch=32, n_ubatch=32, n_threads=1, n_parallel=together, device_pointers=()
        )

    return ModelFile(path.stem, lambda: path, settings)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModelFile]:
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "base.gguf")
    write_tiny_model(folder / "other.gguf", TinyShape(n_ff=256))
    write_tiny_model(folder / "bad.gguf", bad_tensor="output_norm.weight")
    return lambda name: model_file(folder / f"{name}.gguf")


def test_a_base_without_room_for_its_logits_runs_in_lockstep_to_the_same_numbers(
    models: Callable[[str], ModelFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = BaseModel(models("base"), tmp_path)
    with_file = measure_quality(models("other"), REQUEST, kept)
    assert [path.suffix for path in tmp_path.iterdir()] == [".logits"]
    monkeypatch.setattr(quality, "SCRATCH_BYTES", 0)
    (tmp_path / "live").mkdir()
    live = BaseModel(models("base"), tmp_path / "live")
    in_lockstep = measure_quality(models("other"), REQUEST, live)
    assert list((tmp_path / "live").iterdir()) == []
    assert in_lockstep == with_file
    assert live.quality(REQUEST) == kept.quality(REQUEST)
    assert with_file.divergence is not None
    assert with_file.divergence.mean.value > 0
    assert len(with_file.divergence.per_chunk) == with_file.key.chunks == 12


def test_a_base_is_evaluated_once_for_all_models(models: Callable[[str], ModelFile], tmp_path: Path) -> None:
    loads: list[str] = []
    base = models("base")
    counted = replace(base, path=lambda: (loads.append("base"), base.path())[1])
    measured = BaseModel(counted, tmp_path)
    measured.quality(REQUEST)
    for _ in range(2):
        measure_quality(models("other"), REQUEST, measured)
    assert loads == ["base"]


def test_progress_is_told_chunk_by_chunk(models: Callable[[str], ModelFile], tmp_path: Path) -> None:
    labels: list[str] = []
    steps: list[tuple[int, int, str]] = []

    class Reporter(LoggingReporter):
        @contextmanager
        def task(self, label: str, *_: object, **__: object) -> Iterator[SimpleNamespace]:
            labels.append(label)
            yield SimpleNamespace(update=lambda *step: steps.append(step))

    reporter = Reporter()
    measure_quality(models("other"), REQUEST, BaseModel(models("base"), tmp_path, reporter), reporter)
    assert labels == ["other on a text", "base on a text"]
    assert [done for done, _, value in steps if value.startswith("KLD")] == list(range(1, 13))
    assert [done for done, _, value in steps if value.startswith("PPL")] == list(range(1, 13))


def test_a_base_that_is_not_finite_or_a_text_too_short_is_an_error(
    models: Callable[[str], ModelFile], tmp_path: Path
) -> None:
    with pytest.raises(QualityError, match="chunk 1 of 12"):
        BaseModel(models("bad"), tmp_path).quality(REQUEST)
    with pytest.raises(TextError, match="chunks of 4,096 need"):
        BaseModel(models("base"), tmp_path).quality(replace(REQUEST, n_ctx_seq=4096))
    assert list(tmp_path.iterdir()) == []
