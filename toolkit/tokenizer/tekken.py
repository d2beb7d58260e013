"""Read tekken.json, the vocabulary of Mistral's own format: special tokens first, then ranks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import TokenizerError
from toolkit.gguf.format import Metadata, ValueType, array, boolean, shortened, string
from toolkit.json_files import read_json_object
from toolkit.tokenizer.byte_level_bpe import spelled
from toolkit.tokenizer.chat_template import has_chat_template
from toolkit.tokenizer.files import TokenizerFiles
from toolkit.tokenizer.tiktoken import all_merges, check_ranks, decoded
from toolkit.tokenizer.vocabulary import Token, TokenType, Vocabulary, padded, too_few_rows

FILE = "tekken.json"
MAX_TOKENS = 1 << 20
"""Eight times the tokens of the largest file in use."""

_FIRST_SPECIAL = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]",
    "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)  # fmt: skip
"""The special tokens of files that list none: versions up to 7, as mistral-common has them."""
_OLD_VERSIONS = ("v1", "v2", "v3", "v7")
_TEMPLATES = {"v3": "mistral-v3-tekken", "v7": "mistral-v7-tekken"}
"""llama.cpp's own names for the chat templates that a version implies."""
_NO_TEMPLATE = (
    "tekken.json implies a chat format that llama.cpp has no name for, and there is no chat template; "
    "give --chat-template-file to whatever runs the model"
)
_ROLES = {"unk": "<unk>", "bos": "<s>", "eos": "</s>", "pad": "<pad>"}


@dataclass(frozen=True)
class Tekken:
    """What tekken.json holds: special tokens by id, then bytes by rank, counted from there on."""

    version: str
    pattern: str
    """the regular expression that cuts text into the pieces within which bytes are joined"""
    special: dict[int, str]
    ranks: dict[bytes, int]


def open_tekken(path: Path) -> Tekken:
    """Read tekken.json.

    Raises TokenizerError if it is malformed.
    """
    content = read_json_object(path)
    config = content.get("config")
    if not isinstance(config, dict):
        raise TokenizerError(f"{FILE} has no config, expected an object with default_vocab_size and version")
    n_special, version = _count(config, "default_num_special_tokens"), str(config.get("version"))
    special = _special_tokens(content.get("special_tokens"), version, n_special)
    ranks = _ranks(content.get("vocab"), _count(config, "default_vocab_size") - n_special)
    return Tekken(version, str(config.get("pattern")), special, ranks)


def read_tekken(files: TokenizerFiles, n_rows: int) -> Vocabulary | None:
    """Return the vocabulary of tekken.json, or None if there is no such file, or a tokenizer.json beside it.

    Source: MistralVocab in llama.cpp's gguf/vocab.py, TextModel._set_vocab_mistral in its conversion/base.py, and the
    Tekkenizer of mistral-common.

    Raises TokenizerError if the file is malformed.
    """
    path = files.path(FILE)
    if files.tokenizer_json is not None or not path.is_file():
        return None
    tekken = open_tekken(path)
    n_special = len(tekken.special)
    tokens = {index: Token(text, TokenType.CONTROL) for index, text in tekken.special.items()}
    tokens |= {n_special + rank: Token(spelled(token), TokenType.NORMAL) for token, rank in tekken.ranks.items()}
    last = n_special + len(tekken.ranks) - 1
    if last >= n_rows:
        raise too_few_rows(last, tokens[last].text, n_rows)
    template = _TEMPLATES.get(tekken.version)
    ids = {text: index for index, text in tekken.special.items()}
    roles = {role: ids[text] for role, text in _ROLES.items() if text in ids}
    return Vocabulary(
        model="gpt2",
        pre="tekken",
        tokens=tuple(padded(tokens, n_rows)),
        scored=False,
        merges=tuple(all_merges(tekken.ranks)),
        metadata=_defaults(template, n_rows),
        role_ids={"pad": roles["eos"], **roles} if "eos" in roles else roles,
        warnings=() if template or has_chat_template(files) else (_NO_TEMPLATE,),
    )


def _defaults(template: str | None, n_tokens: int) -> Metadata:
    metadata = {
        "tokenizer.ggml.scores": array(ValueType.INT32, [0] * n_tokens),
        "tokenizer.ggml.add_bos_token": boolean(True),
        "tokenizer.ggml.add_eos_token": boolean(False),
    }
    return metadata if template is None else metadata | {"tokenizer.chat_template": string(template)}


def _count(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_TOKENS:
        raise TokenizerError(
            f"{FILE}: {key} is {shortened(value)}, expected a positive whole number of at most {MAX_TOKENS:,}"
        )
    return value


def _special_tokens(entries: Any, version: str, count: int) -> dict[int, str]:
    """Return the texts of the ids below `count`: those that are named, and fillers behind them."""
    if entries is None and version not in _OLD_VERSIONS:
        raise TokenizerError(f"{FILE} of version {version} names no special tokens; download it again")
    if not isinstance(entries, list | None):
        raise TokenizerError(f"{FILE}: special_tokens is {shortened(entries)}, expected a list")
    named = dict(enumerate(_FIRST_SPECIAL)) if entries is None else dict(_named(entry) for entry in entries)
    if max(named, default=0) >= count:
        raise TokenizerError(f"{FILE} names the special token {max(named)}, but has {count} of them")
    return {index: f"<SPECIAL_{index}>" for index in range(count)} | named


def _named(entry: Any) -> tuple[int, str]:
    match entry:
        case {"rank": int(index), "token_str": str(text)} if index >= 0:
            return index, text
    raise TokenizerError(f"{FILE} has the special token {shortened(entry)}, expected an object with rank and token_str")


def _ranks(entries: Any, count: int) -> dict[bytes, int]:
    if not isinstance(entries, list) or len(entries) < count:
        count_in_file = len(entries) if isinstance(entries, list) else "no list of"
        raise TokenizerError(f"{FILE} has {count_in_file} tokens, expected at least {count}")
    ranks = {_token(entry, index): index for index, entry in enumerate(entries[:count])}
    check_ranks(ranks, FILE)
    return ranks


def _token(entry: Any, index: int) -> bytes:
    if not isinstance(entry, dict) or entry.get("rank") != index:
        raise TokenizerError(f"{FILE}: token {index} is {shortened(entry)}, expected an object with the rank {index}")
    return decoded(entry.get("token_bytes"), f"{FILE}: token {index}")
