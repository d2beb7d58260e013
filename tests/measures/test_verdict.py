import math
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.measures.verdict import Measured, Measurement, judge, judge_use
from toolkit.measures.verdict_rules import QUANTITIES, Level, UseCase, read_verdict_rules

RULES = read_verdict_rules()
SHIPPED = Path(__file__).parents[2] / "toolkit" / "measures" / "verdicts.toml"
Q5 = {"mean_kld": 0.0108, "p999_kld": 0.3, "same_top": 0.945, "perplexity_ratio": 1.008}


def use(name: str) -> UseCase:
    return next(use for use in RULES.use_cases if use.name == name)


def measured(kind: str, n_ctx_seq: int = 512, spread: float = 0.0, **values: float) -> Measurement:
    found = {name: Measured(value, value - spread, value + spread) for name, value in (Q5 | values).items()}
    return Measurement(kind, f"{kind}.txt", "0123456789abcdef" * 4, n_ctx_seq, 40, found)


def test_every_use_that_people_ask_for_has_all_thresholds() -> None:
    assert [use.name for use in RULES.use_cases] == ["chat", "general", "code", "reasoning", "long", "language"]
    for one in RULES.use_cases:
        assert [threshold.quantity.name for threshold in one.thresholds] == list(QUANTITIES)


def test_every_threshold_says_where_it_comes_from() -> None:
    thresholds = [threshold for one in RULES.use_cases for threshold in one.thresholds]
    assert all(threshold.note for threshold in thresholds)
    cited = {threshold.source for threshold in thresholds if threshold.source is not None} | {RULES.advice}
    assert all(source is not None and source.link.startswith("https://") for source in cited)
    # Every source of the file is used.
    assert len(cited) == SHIPPED.read_text(encoding="utf-8").count("[sources.")


def test_without_text_of_its_kind_a_use_is_unknown_and_not_fine() -> None:
    verdicts = judge(RULES.use_cases, [measured("general")])
    assert [verdict.level for verdict in verdicts if verdict.use.name != "general"] == [Level.UNKNOWN] * 5
    assert verdicts[1].level is Level.GOOD
    assert verdicts[2].sentence == "unknown for code: no text of the kind `code` was measured"


def test_the_worst_quantity_is_the_verdict_and_is_named() -> None:
    verdict = judge_use(use("code"), [measured("code", p999_kld=0.7, mean_kld=0.03)])
    assert verdict.level is Level.NOTICEABLE
    assert {finding.threshold.quantity.name for finding in verdict.deciding} == {"p999_kld", "mean_kld"}
    verdict = judge_use(use("code"), [measured("code", same_top=0.8)])
    assert verdict.level is Level.NOT_ADVISED
    assert verdict.sentence == (
        "not advised for code: same top token 80.0 % (noticeable from 90.0 %); "
        "on code.txt (40 chunks of 512 tokens, SHA-256 0123456789ab)"
    )


def test_chat_bears_what_code_does_not() -> None:
    loss = {"mean_kld": 0.06, "p999_kld": 1.2, "same_top": 0.89, "perplexity_ratio": 1.04}
    levels = {
        name: judge_use(use(name), [measured(use(name).text, **loss)]).level for name in ("chat", "general", "code")
    }
    assert levels == {"chat": Level.GOOD, "general": Level.NOTICEABLE, "code": Level.NOT_ADVISED}


def test_an_interval_over_a_threshold_leaves_the_verdict_open_and_says_so() -> None:
    near = measured("general", mean_kld=0.049, spread=0.002)
    verdict = judge_use(use("general"), [near])
    assert (verdict.level, verdict.is_certain) == (Level.GOOD, False)
    assert "within the error it could be noticeable; more text would tell" in verdict.sentence
    assert judge_use(use("general"), [replace(near, values=measured("general").values)]).is_certain


def test_a_tail_that_too_little_text_bounds_leaves_it_open_and_says_why() -> None:
    short = measured("general")
    tail = Measured(0.3, 0.2, math.inf)
    verdict = judge_use(use("general"), [replace(short, values=short.values | {"p999_kld": tail})])
    assert (verdict.level, verdict.is_certain, verdict.possible) == (Level.GOOD, False, (Level.GOOD,))
    assert "the text is too short to bound the 99.9 % KLD from above" in verdict.sentence
    bad = measured("general", same_top=0.5)
    verdict = judge_use(use("general"), [replace(bad, values=bad.values | {"p999_kld": tail})])
    assert (verdict.level, verdict.is_certain, verdict.doubt) == (Level.NOT_ADVISED, True, "")


def test_a_quantity_that_is_bad_for_sure_settles_it_whatever_the_others_may_be() -> None:
    verdict = judge_use(use("general"), [measured("general", mean_kld=0.049, same_top=0.5, spread=0.002)])
    assert (verdict.level, verdict.is_certain) == (Level.NOT_ADVISED, True)


def test_long_documents_need_long_chunks() -> None:
    short = judge_use(use("long"), [measured("long")])
    assert "chunks of 512 tokens, and at least 4,096 are needed" in short.sentence
    assert judge_use(use("long"), [measured("long", n_ctx_seq=4096)]).level is Level.GOOD


def test_of_several_texts_of_a_kind_the_worst_counts() -> None:
    texts = [measured("language"), measured("language", mean_kld=0.3)]
    assert judge_use(use("language"), texts).level is Level.NOT_ADVISED


def test_without_a_base_nothing_is_known() -> None:
    verdict = judge_use(use("general"), [replace(measured("general"), values={})])
    assert verdict.level is Level.UNKNOWN
    assert "there is no base" in verdict.sentence


MINIMAL = """
[uses.mine]
title = "mine"
text = "general"
why = "because"
mean_kld = { good = 0.1, noticeable = 0.2, source = "judgement" }
"""


def test_a_file_of_ones_own_replaces_the_thresholds(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL, encoding="utf-8")
    rules = read_verdict_rules(path)
    assert rules.kinds == ("general",)
    assert judge_use(rules.use_cases[0], [measured("general")]).level is Level.GOOD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("mean_kld", "mean_kdl"), r"\[uses.mine\]: unknown key 'mean_kdl'; known are title"),
        (("noticeable", "bad"), r"\[uses.mine\] mean_kld: unknown key 'bad'"),
        (("0.2", "0.05"), r"good \(0.1\) has to be better than noticeable \(0.05\)"),
        (("0.2", '"much"'), "'noticeable' is missing, or is not a number"),
        (('"judgement"', '"hearsay"'), r"there is no \[sources.hearsay\]; the file has judgement"),
        (('title = "mine"', ""), "'title' is missing, or is not text"),
        (("[uses.mine]", "[users.mine]"), "the file: unknown key 'users'; known are sources, advice, uses"),
        (("[uses.mine]", "[uses.mine"), "not valid TOML"),
        (("{ good = 0.1, noticeable = 0.2, source = \"judgement\" }", "0.1"), "expected { good"),
        (('why = "because"', 'why = "because"\nleast_chunk_tokens = "8k"'), "is not a number of tokens"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_name(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL.replace(*change), encoding="utf-8")
    with pytest.raises(InputError, match=message) as refused:
        read_verdict_rules(path)
    assert str(path) in str(refused.value)


def test_a_file_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_verdict_rules(tmp_path / "absent.toml")
    empty = tmp_path / "empty.toml"
    empty.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"\[uses\]: expected tables"):
        read_verdict_rules(empty)
