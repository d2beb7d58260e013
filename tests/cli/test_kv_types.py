import click
import pytest

from toolkit.cli.options import kv_list_option, parse_kv_list
from toolkit.errors import InputError
from toolkit.llama.load_settings import KvTypes


def test_types_are_separated_by_commas_or_given_one_by_one_and_count_once():
    values = ("f16,Q8_0", "q8_0/q4_0", "f16")
    assert parse_kv_list(click.Context(click.Command("any")), click.Option(["--kv"]), values) == (
        "f16",
        "q8_0",
        "q8_0/q4_0",
    )


def test_a_type_that_no_cache_can_have_is_refused_wherever_several_are_taken():
    command = kv_list_option("f16")(click.command(lambda kv: kv))
    with pytest.raises(InputError, match="KV type 'q3_k' is not one of f32, f16"):
        command.main(["--kv", "f16,q3_k"], standalone_mode=False)
    assert command.main([], standalone_mode=False) == ("f16",)


def test_keys_and_values_may_have_types_of_their_own():
    assert KvTypes.parse("Q8_0/q4_0") == KvTypes("q8_0", "q4_0")
    assert KvTypes.parse("q8_0") == KvTypes("q8_0", "q8_0")


@pytest.mark.parametrize("text", ["f16", "q8_0", "q8_0/q4_0", "f16/q8_0"])
def test_types_are_printed_as_they_are_written(text):
    assert str(KvTypes.parse(text)) == text
