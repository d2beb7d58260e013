import math
from dataclasses import asdict, replace
from pathlib import Path

from made_up_comparison import divergence, quality
from odd_values import with_value

from toolkit.comparison.store import ComparisonStore, _whole
from toolkit.machine.disk_cache import VARIABLE, content_digest
from toolkit.measures.paired import Interval
from toolkit.measures.token_rate import TokenRate

RATES = TokenRate(100.5, 1.0, 20.25, None)


def test_a_measurement_comes_back_as_it_was(tmp_path: Path) -> None:
    store = ComparisonStore(tmp_path)
    unbounded = replace(divergence(0.01), p999=Interval(0.1, 0.05, math.inf))
    for found in (quality(divergence(0.01)), quality(None), quality(unbounded)):
        store.keep_quality(found, "contents", {"n_ctx": 512})
        assert ComparisonStore(tmp_path).quality("contents", {"n_ctx": 512}) == found
    store.keep_rates(RATES, "contents")
    assert store.rates("contents") == RATES
    assert store.reused == 1


def test_other_contents_settings_or_chunks_are_other_questions(tmp_path: Path) -> None:
    store = ComparisonStore(tmp_path)
    store.keep_quality(quality(divergence(0.01)), "contents", 512)
    assert store.quality("contents", 1024) is None
    assert store.quality("other", 512) is None
    assert store.rates("contents", 512) is None


def test_fresh_takes_nothing_and_keeps_what_it_measures(tmp_path: Path) -> None:
    ComparisonStore(tmp_path).keep_rates(RATES, "contents")
    fresh = ComparisonStore(tmp_path, fresh=True)
    assert fresh.rates("contents") is None
    fresh.keep_rates(TokenRate(1, 1, 1, 1), "contents")
    assert ComparisonStore(tmp_path).rates("contents") == TokenRate(1, 1, 1, 1)


def test_what_is_damaged_is_measured_again(tmp_path: Path) -> None:
    store = ComparisonStore(tmp_path)
    store.keep_quality(quality(divergence(0.01)), "contents")
    [file] = (tmp_path / "comparisons").iterdir()
    for text in ("{", "[]", '{"divergence": null}', '{"divergence": {"mean": 1}, "key": {}}'):
        file.write_text(text, encoding="utf-8")
        assert store.quality("contents") is None


def test_a_kept_measurement_with_a_value_of_another_type_is_made_again_and_counted(tmp_path: Path) -> None:
    store = ComparisonStore(tmp_path)
    good = asdict(quality(divergence(0.01)))
    for place, value in (
        (("divergence", "mean", "value"), "0.01"),
        (("divergence", "p999", "low"), None),
        (("divergence", "per_chunk"), 3),
        (("key", "n_ctx_seq"), 512.0),
        (("tokens",), True),
        (("divergence", "mean"), {"value": 0.01, "error": 0.01, "extra": 1}),
        (("perplexity",), [1, 2]),
    ):
        store._kept.put(_whole(("quality", "contents")), with_value(good, place, value))
        assert store.quality("contents") is None, place
    store._kept.put(_whole(("quality", "contents")), {})
    assert store.quality("contents") is None
    assert (store.unusable, store.reused) == (8, 0)
    store._kept.put(_whole(("quality", "contents")), good)
    assert store.quality("contents") == quality(divergence(0.01))


def test_without_a_folder_nothing_is_kept() -> None:
    store = ComparisonStore(None)
    store.keep_rates(RATES, "contents")
    assert store.rates("contents") is None


def test_a_digest_is_of_the_contents_and_not_of_name_or_time(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"weights" * 1000)
    other.write_bytes(b"weights" * 1000)
    assert content_digest([one]) == content_digest([other])
    assert content_digest([one, other]) != content_digest([one])
    other.write_bytes(b"weights" * 999 + b"wEights")
    assert content_digest([one]) != content_digest([other])
    monkeypatch.setattr("toolkit.machine.disk_cache._BLOCK_BYTES", 1000)
    again, block = tmp_path / "again", tmp_path / "block"
    again.write_bytes(b"weights" * 1000)
    # Blocks in another order are other contents.
    block.write_bytes((b"weights" * 1000)[1000:] + (b"weights" * 1000)[:1000])
    assert content_digest([again]) != content_digest([block])
