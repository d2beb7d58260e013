"""Find llama.cpp's name for the way in which tokenizer.json splits text before BPE.

llama.cpp's converter hashes the ids of a check text, which any added token or another merge changes; the regexes themselves
do not change with the vocabulary. So the regexes are looked up first, and the hash only where the table lacks them.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from toolkit.errors import TokenizerError
from toolkit.tokenizer.files import normalizer_steps, pre_tokenizer_steps
from toolkit.tokenizer.pre_tokenizer_table import (
    DIGIT,
    DIGITS,
    GPT2,
    HASHED_NAMES,
    KNOWN_NAMES,
    NAMES,
    PUNCTUATION,
    Names,
)

CHECK_TEXT = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ (multiple emojis concatenated) ✅ 🦙🦙 "
    "3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ "  # noqa: RUF001
    "------======= нещо на Български ''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? "
    "'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"
)
"""the text that llama.cpp's converter knows a pre-tokenizer by"""


def choose_pre_tokenizer(
    tokenizer_json: Mapping[str, Any], config: Mapping[str, Any], override: str | None
) -> tuple[str, tuple[str, ...]]:
    """Return the name and any warnings; `override` is the name that the user gave.

    Raises TokenizerError if llama.cpp does not know the way of splitting, or the name that the user gave.
    """
    if override is not None:
        return checked_name(override), ()
    steps = split_steps(tokenizer_json.get("pre_tokenizer"))
    names = NAMES.get(steps)
    name = name_by_hash(tokenizer_json) if names is None else _name(names, tokenizer_json, config)
    if name is None:
        raise TokenizerError(_unknown(steps))
    return name, _prefix_warning(tokenizer_json.get("pre_tokenizer"))


def split_steps(pre_tokenizer: Any) -> tuple[str, ...]:
    """Return the steps of a `pre_tokenizer` in the table's spelling; one that the table cannot spell stays JSON."""
    return tuple(step for part in pre_tokenizer_steps(pre_tokenizer) if (step := _step(part)))


def _step(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "ByteLevel":
        return GPT2 if part.get("use_regex", True) else ""
    if kind == "Digits":
        return DIGIT if part.get("individual_digits") else DIGITS
    if kind == "Punctuation" and part.get("behavior") == "Contiguous":
        return PUNCTUATION
    if kind == "Split" and _keeps_matches(part):
        pattern = part.get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, dict) else None
        if isinstance(regex, str):
            return regex.replace('\\"', '"')
    return json.dumps(part, ensure_ascii=False)


def _keeps_matches(split: Mapping[str, Any]) -> bool:
    # Where the regex matches all text, isolating the matches and removing what lies between them come to the same.
    return (split.get("behavior"), bool(split.get("invert"))) in (("Isolated", False), ("Removed", True))


def _name(names: Names, tokenizer_json: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    model_type = str(config.get("model_type") or "")
    fitting = [start for start in names.by_model_type if model_type.startswith(start)]
    if fitting:
        return names.by_model_type[max(fitting, key=len)]
    if names.ignoring_merges and _ignores_merges(tokenizer_json.get("model")):
        return names.ignoring_merges
    if names.composed and _composes(tokenizer_json.get("normalizer")):
        return names.composed
    return names.default


def _ignores_merges(model: Any) -> bool:
    return isinstance(model, dict) and bool(model.get("ignore_merges"))


def _composes(normalizer: Any) -> bool:
    return any(step.get("type") == "NFC" for step in normalizer_steps(normalizer))


def _prefix_warning(pre_tokenizer: Any) -> tuple[str, ...]:
    prefixed = any(
        part.get("type") == "ByteLevel" and part.get("add_prefix_space") for part in pre_tokenizer_steps(pre_tokenizer)
    )
    warning = "tokenizer.json puts a space before every text (add_prefix_space), which llama.cpp does not do for BPE"
    return (warning,) if prefixed else ()


def checked_name(name: str) -> str:
    """Return a name that the user gave.

    Raises TokenizerError if llama.cpp knows no such pre-tokenizer.
    """
    if name in KNOWN_NAMES:
        return name
    near = difflib.get_close_matches(name, KNOWN_NAMES, n=3, cutoff=0.4)
    known = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(KNOWN_NAMES)}"
    raise TokenizerError(f"--pre {name} is not a pre-tokenizer of llama.cpp; {known}")


def _unknown(steps: tuple[str, ...]) -> str:
    shown = " then ".join(json.dumps(step, ensure_ascii=False) for step in steps) or "nothing"
    return (
        f"tokenizer.json splits text by {shown}, which is not known to be a pre-tokenizer of llama.cpp; "
        "if you know which one means the same, give its name with --pre NAME"
    )


def name_by_hash(tokenizer_json: Mapping[str, Any]) -> str | None:
    """Return llama.cpp's name for the tokenizer that gives the check text these ids, None if it has no name for it."""
    digest = check_hash(tokenizer_json)
    return None if digest is None else HASHED_NAMES.get(digest)


def check_hash(tokenizer_json: Mapping[str, Any]) -> str | None:
    """Return the SHA-256 of the ids as Python prints their list, None if the file describes no working tokenizer."""
    from tokenizers import Tokenizer

    try:
        ids = Tokenizer.from_str(json.dumps(tokenizer_json)).encode(CHECK_TEXT).ids
    except Exception:  # the library has no error of its own
        return None
    return hashlib.sha256(str(ids).encode()).hexdigest()
