"""Find llama.cpp's name for the way in which tokenizer.json splits text before BPE.

llama.cpp's converter hashes the ids of a test string, which any added token changes; the regexes themselves do not
change with the vocabulary. The hash is the second resort, for what is split as no regex in the table says.
"""

import difflib
import json
from collections.abc import Mapping
from typing import Any

from toolkit.errors import TokenizerError
from toolkit.tokenizer.files import normalizer_steps, pre_tokenizer_steps
from toolkit.tokenizer.pre_tokenizer_hash import name_by_hash
from toolkit.tokenizer.pre_tokenizer_table import DIGIT, DIGITS, GPT2, KNOWN_NAMES, NAMES, PUNCTUATION, Names


def choose_pre_tokenizer(
    tokenizer_json: Mapping[str, Any], config: Mapping[str, Any], override: str | None
) -> tuple[str, tuple[str, ...]]:
    """Return the name and any warnings; `override` is the name that the user gave.

    Raises TokenizerError if the way of splitting, or the user's name, is none that llama.cpp knows.
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
    # Isolating matches, and removing all that lies between them, is one thing where the regex matches all text.
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
    raise TokenizerError(f"--pre {name} is no pre-tokenizer of llama.cpp; {known}")


def _unknown(steps: tuple[str, ...]) -> str:
    shown = " then ".join(json.dumps(step, ensure_ascii=False) for step in steps) or "nothing"
    return (
        f"tokenizer.json splits text by {shown}, which is no pre-tokenizer that llama.cpp is known to have; "
        "if you know which one means the same, give its name with --pre NAME"
    )
