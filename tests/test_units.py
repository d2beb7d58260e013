import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import InputError
from toolkit.units import format_count, format_duration, format_size, parse_count, parse_size


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("8GiB", 8 << 30),
        ("8G", 8 << 30),
        ("8192MiB", 8 << 30),
        ("1.5g", 3 << 29),
        ("0", 0),
        ("512 KiB", 1 << 19),
        ("7b", 7),
    ],
)
def test_sizes_read_as_people_write_them(text, n_bytes):
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize("text", ["", "eight", "-1G", "8 GiBs", "1e9", "8XB", "nan"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(InputError, match="8GiB, 8G or 8192MiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("8", "8 B; did you mean 8GiB"),
        ("24", "24 B; did you mean 24GiB"),
        ("1.5", "2 B; did you mean 1.5GiB"),
        ("8192", "8.00 KiB; did you mean 8192MiB"),
    ],
)
def test_a_size_whose_unit_was_forgotten_is_refused_with_the_right_spelling(text, meant):
    with pytest.raises(InputError, match=rf"'{text}' has no unit, which makes it {meant}\?"):
        parse_size(text)


def test_many_bytes_need_no_unit():
    assert parse_size("1048576") == 1 << 20
    assert parse_size("8b") == 8


@pytest.mark.parametrize(("text", "count"), [("4096", 4096), ("16k", 16384), ("1m", 1 << 20), ("0.5k", 512)])
def test_contexts_read_as_people_write_them(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "-5", "16kb", "many"])
def test_what_is_no_context_is_refused(text):
    with pytest.raises(InputError, match="4096 or 16k"):
        parse_count(text)


@given(st.integers(min_value=0, max_value=1 << 50))
def test_a_printed_size_reads_back_within_its_precision(n_bytes):
    assert parse_size(format_size(n_bytes)) == pytest.approx(n_bytes, rel=0.06)


def test_sizes_counts_and_durations_print_short():
    assert [format_size(n) for n in (812, 5 << 20, 4_920_000_000)] == ["812 B", "5.00 MiB", "4.58 GiB"]
    assert format_count(128256) == "128,256"
    assert [format_duration(s) for s in (0.42, 12.4, 185)] == ["0.4 s", "12 s", "3 min 05 s"]
