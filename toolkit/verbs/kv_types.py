"""Types of the KV cache, as they are written: TYPE for keys and values, or TYPE/TYPE for each."""

from toolkit.errors import InputError

KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "iq4_nl", "q4_1", "q4_0")


def kv_pair(text: str) -> tuple[str, str]:
    """Return the types of keys and values, in small letters.

    Raises InputError if one is not a type that a cache can have.
    """
    keys, slash, values = text.lower().partition("/")
    pair = keys, values if slash else keys
    for name in pair:
        if name not in KV_TYPES:
            raise InputError(f"KV type {name!r} is not one of {', '.join(KV_TYPES)}; two are written as KEYS/VALUES")
    return pair
