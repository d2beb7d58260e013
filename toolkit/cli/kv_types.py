"""Types of the KV cache on the command line: TYPE for keys and values, or TYPE/TYPE for each."""

from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.options import Option
from toolkit.errors import InputError

if TYPE_CHECKING:
    from toolkit.planning.request import KvTypes

KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "iq4_nl", "q4_1", "q4_0")


def kv_pair(text: str) -> "KvTypes":
    """Return the types of keys and values, in small letters, that TYPE or TYPE/TYPE stands for.

    Raises InputError if one is none that a cache can have.
    """
    keys, slash, values = text.lower().partition("/")
    pair = keys, values if slash else keys
    for name in pair:
        if name not in KV_TYPES:
            raise InputError(f"KV type {name!r} is not one of {', '.join(KV_TYPES)}; two are written as KEYS/VALUES")
    return pair


def parse_kv(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Return the text that stands for types of a KV cache.

    Raises InputError if it stands for none.
    """
    kv_pair(value)
    return value.lower()


def parse_kv_list(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return every text once, whether they were separated by commas or given one by one.

    Raises InputError if one stands for no types of a KV cache.
    """
    parts = [part.strip().lower() for value in values for part in value.split(",") if part.strip()]
    for part in parts:
        kv_pair(part)
    return tuple(dict.fromkeys(parts))


kv_option: Option[Any] = click.option(
    "--kv", default="f16", show_default=True, callback=parse_kv, metavar="TYPE[/TYPE]", help="Type of the KV cache."
)


def kv_list_option(*default: str, otherwise: str = "") -> Option[Any]:
    """Return `--kv` for several types; `otherwise` says what stands for none, where there is no default."""
    return click.option(
        "--kv",
        multiple=True,
        default=default,
        show_default=otherwise or True,
        callback=parse_kv_list,
        metavar="TYPE[/TYPE][,...]",
        help="Types of the KV cache; repeatable.",
    )
