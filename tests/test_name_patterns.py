"""Patterns of strangers find what Python's `re` finds, in linear time; what goes beyond that is refused."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.name_patterns import NamePattern
from toolkit.pattern_syntax import MAX_PATTERN, MAX_STATES, PatternError

IN_THE_FIELD = (
    r".*\.18\..*gate.*",
    r"model\.layers\.(1[0-9]|2[0-3])\.mlp\.(gate|up)_proj",
    r".*self_attn\.(q|k|v|o)_proj$",
    r"^(?!.*lm_head).*proj$",
    r"(?:.*\.)?layers\.\d+\.mlp\.experts\.\d{1,3}\.w[123]",
    r"[^.]+\.layers\.[\d]{2}\.\w+",
    r"q_proj",
    r"layers\.5\.self_attn.q_proj|\bdown_proj\b",
    r"(?=.*mlp).*[a-d]own_proj\Z",
)
NAMES = (
    "model.layers.18.mlp.gate_proj",
    "model.layers.5.self_attn.q_proj",
    "model.layers.23.mlp.down_proj",
    "model.layers.1.mlp.experts.12.w3",
    "lm_head",
    "a.lm_head.proj",
    "",
)
_parts = st.sampled_from(
    ["a", "b", ".", r"\.", "[ab]", "[^a]", r"\w", r"\d", r"\W", "^", "$", r"\b", r"\B", "1", "[a-c1]", "()"]
)
_patterns = st.recursive(
    _parts,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{,2}", "{1,}", "*?", "+?"])).map(
            lambda pair: f"({pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("pattern", IN_THE_FIELD)
def test_patterns_of_the_field_match_the_names_that_re_matches(pattern):
    made = NamePattern(pattern)
    for name in NAMES:
        assert made.matches_whole(name) is (re.fullmatch(pattern, name) is not None), name
        assert made.matches_start(name) is (re.match(pattern, name) is not None), name


@given(_patterns, st.text("ab.1", min_size=1, max_size=8))
@settings(max_examples=300, deadline=None, database=None)
def test_any_pattern_of_the_subset_finds_what_re_finds(pattern, name):
    made = NamePattern(pattern)
    assert made.matches_whole(name) is (re.fullmatch(pattern, name) is not None)
    assert made.matches_start(name) is (re.match(pattern, name) is not None)
    assert NamePattern(pattern, anywhere=True).found_in(name) is (re.search(pattern, name) is not None)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(a*)*b", "(.*a){12}b", "(a?){40}a{40}b", "(a|b|ab)*c"])
def test_a_pattern_that_takes_re_ages_is_matched_in_a_moment(pattern):
    made = NamePattern(pattern)
    assert not made.matches_whole("a" * 5000 + "!")
    assert len(made._steps) <= 4096


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "lacks a )"),
        ("a)", "a ) too many"),
        ("*a", "nothing to repeat"),
        ("a**", "repeats a repetition"),
        ("a{2}{3}", "repeats a repetition"),
        ("a++", "repeats a repetition"),
        ("[a", "ends too early"),
        ("[z-a]", "ends before it begins"),
        ("a{3,2}", "ends before it begins"),
        ("a\\", "ends too early"),
        (r"(a)\1", "not matched in linear time"),
        ("(?<=a)b", "not matched in linear time"),
        ("(?i)a", "not matched in linear time"),
        ("a(?!b)", "not matched in linear time"),
        ("(" * 31 + ")" * 31, "nested more than"),
        ("a" * (MAX_PATTERN + 1), "longer than 2000 characters"),
        ("(a{100}){100}", f"more than {MAX_STATES} steps"),
        ("(((){9999}){9999}){9999}", f"more than {MAX_STATES} steps"),
    ],
)
def test_what_is_no_pattern_or_beyond_the_subset_is_refused(pattern, reason):
    with pytest.raises(PatternError, match=re.escape(reason)):
        NamePattern(pattern)


def test_a_condition_on_what_follows_has_no_place_in_a_pattern_that_may_stand_anywhere():
    with pytest.raises(PatternError, match="may stand anywhere"):
        NamePattern("(?!a)b", anywhere=True)
