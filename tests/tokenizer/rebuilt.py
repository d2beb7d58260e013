"""A GGUF file's vocabulary as the tokenizer files of a checkpoint from which it could have come."""

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.gguf.format import Metadata
from toolkit.tokenizer.pre_tokenizer_table import CL100K, DEEPSEEK_LLM, QWEN2, QWEN35

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
DIGITS = {"type": "Digits", "individual_digits": True}
OWN_REGEX = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
NFC = {"type": "NFC"}


def split(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def byte_level(*splits: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": [*splits, OWN_REGEX | {"use_regex": False}]}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


@dataclass(frozen=True)
class Published:
    """What the published tokenizer.json of a family says beside tokens and merges, and config.json's model_type."""

    model_type: str
    pre_tokenizer: dict[str, Any] | None = None
    normalizer: dict[str, Any] | None = None
    ignore_merges: bool = False


PUBLISHED = {
    "command-r": Published("cohere", sequence(DIGITS, OWN_REGEX), NFC),
    "deepseek-coder": Published(
        "llama",
        byte_level(*map(split, (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+")), DIGITS),
    ),
    "deepseek-llm": Published("llama", byte_level(*map(split, DEEPSEEK_LLM), DIGITS)),
    "falcon": Published(
        "falcon",
        sequence(
            {"type": "Punctuation", "behavior": "Contiguous"},
            OWN_REGEX,
            {"type": "Digits", "individual_digits": False},
            split("[0-9][0-9][0-9]"),
        ),
    ),
    "gpt-2": Published("gpt2", OWN_REGEX),
    "llama-bpe": Published("llama", byte_level(split(CL100K)), ignore_merges=True),
    "mpt": Published("mpt", OWN_REGEX, NFC),
    "qwen2": Published("qwen2", byte_level(split(QWEN2)), NFC),
    "qwen35": Published("qwen3_5", byte_level(split(QWEN35)), NFC),
    "refact": Published("gpt_refact", sequence(DIGITS, OWN_REGEX)),
    "starcoder": Published("gpt_bigcode", sequence(DIGITS, OWN_REGEX)),
    "bert-bge": Published("bert", {"type": "BertPreTokenizer"}),
    "llama-spm": Published("llama"),
    "phi-3": Published("phi3"),
    "gemma-4": Published("gemma4", None, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
}


def write_tokenizer(name: str, metadata: Metadata, directory: Path) -> None:
    """Write tokenizer.model or tokenizer.json of a vocabulary of the archive, with tokenizer_config.json."""
    values = _values(metadata)
    settings = {
        f"{role}_token": values["tokens"][values[key]]
        for role, key in (("bos", "bos_token_id"), ("eos", "eos_token_id"), ("unk", "unknown_token_id"))
        if key in values
    }
    if values["model"] == "llama":
        n_pieces = 1 + max(index for index, _, kind in listed(values) if kind == NORMAL)
        (directory / "tokenizer.model").write_bytes(sentencepiece_model(values, n_pieces))
        added = [
            one
            for one in added_tokens(listed(values), CONTROL, USER_DEFINED)
            if one["id"] >= n_pieces or not one["special"]
        ]
        settings["added_tokens_decoder"] = {str(one["id"]): one for one in added}
    else:
        made = tokenizer_json(name, metadata)
        (directory / "tokenizer.json").write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")


def _values(metadata: Metadata) -> dict[str, Any]:
    return {key.removeprefix("tokenizer.ggml."): value.value for key, value in metadata.items()}


def tokenizer_json(name: str, metadata: Metadata) -> dict[str, Any]:
    """Return the tokenizer.json of a vocabulary of the archive that is no sentencepiece one."""
    values = _values(metadata)
    match values["model"]:
        case "bert":
            return wordpiece_json(values)
        case "gemma4":
            return fallback_json(name, values)
    return byte_level_json(name, values)


def added_tokens(texts: Iterable[tuple[int, str, int]], *types: int) -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": index, "content": text, "special": kind in (CONTROL, UNKNOWN), **flags}
        for index, text, kind in texts
        if kind in types
    ]


def listed(values: Mapping[str, Any]) -> list[tuple[int, str, int]]:
    """Return id, text and type of every token."""
    return [(i, *pair) for i, pair in enumerate(zip(values["tokens"], values["token_type"], strict=True))]


def byte_level_json(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    published, tokens = PUBLISHED[name], listed(values)
    vocabulary = {text: index for index, text, kind in tokens if kind == NORMAL}
    return {
        "version": "1.0",
        "added_tokens": added_tokens(tokens, CONTROL, USER_DEFINED),
        "normalizer": published.normalizer,
        "pre_tokenizer": published.pre_tokenizer,
        "decoder": OWN_REGEX,
        "model": {
            "type": "BPE",
            "ignore_merges": published.ignore_merges,
            "vocab": vocabulary,
            "merges": list(values["merges"]),
        },
    }


def fallback_json(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    tokens = [(index, text.replace(" ", "▁"), kind) for index, text, kind in listed(values)]
    return {
        "version": "1.0",
        "added_tokens": added_tokens(tokens, CONTROL, USER_DEFINED),
        "normalizer": PUBLISHED[name].normalizer,
        "decoder": {"type": "Sequence", "decoders": []},
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "unk_token": "<unk>",
            "vocab": {text: index for index, text, _ in tokens},
            "merges": [merge.replace(chr(288), " ") for merge in values["merges"]],
        },
    }


def wordpiece_json(values: Mapping[str, Any]) -> dict[str, Any]:
    tokens = [(index, _as_published(text, kind), kind) for index, text, kind in listed(values)]
    return {
        "version": "1.0",
        "added_tokens": added_tokens(tokens, CONTROL),
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {text: index for index, text, _ in tokens},
        },
    }


def _as_published(text: str, kind: int) -> str:
    if kind == CONTROL:
        return text
    return text.removeprefix("▁") if text.startswith("▁") else f"##{text}"


def sentencepiece_model(values: Mapping[str, Any], n_pieces: int) -> bytes:
    """Return a serialized model of the first pieces.

    Its fields: 1 a piece (text, score, type), 2 the trainer's settings (BPE, bytes to fall back to), 3 the normalizer's.
    """
    rows = list(zip(values["tokens"], values["scores"], values["token_type"], strict=True))[:n_pieces]
    return (
        b"".join(_field(1, _piece(*row)) for row in rows)
        + _field(2, b"\x18\x02\x98\x02\x01")
        + _field(3, b"\x18\x01\x20\x00")
    )


def _piece(text: str, score: float, kind: int) -> bytes:
    # Another file makes it user-defined: Phi 3's </s>.
    kept = CONTROL if kind == USER_DEFINED else kind
    return _field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes((0x18, kept))


def _field(number: int, content: bytes) -> bytes:
    length, encoded = len(content), b""
    while length > 0x7F:
        encoded += bytes((length & 0x7F | 0x80,))
        length >>= 7
    return bytes((number << 3 | 2,)) + encoded + bytes((length,)) + content
