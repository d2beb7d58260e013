"""Byte-level vocabularies of the kit as rank files: tiktoken's lines and Mistral's tekken.json."""

import base64
import json
from pathlib import Path
from typing import Any

from tokenizer.kit_vocabularies import SOURCES

from toolkit.tokenizer.byte_level_bpe import byte_of_letter
from toolkit.tokenizer.pre_tokenizer_table import TEKKEN

SPECIAL_V7 = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
    "[AUDIO]",
]


def ranked_tokens(case: str) -> list[bytes]:
    """Return the bytes, and then what the merges of a case make, in their order."""
    content = json.loads((SOURCES / case / "tokenizer.json").read_text(encoding="utf-8"))
    alphabet = byte_of_letter()
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in content["model"]["merges"]]
    made = [bytes(alphabet[letter] for letter in left + right) for left, right in merges]
    return [bytes((byte,)) for byte in range(256)] + made


def tiktoken_lines(tokens: list[bytes]) -> str:
    return "".join(f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens))


def tekken_json(tokens: list[bytes], special: list[str] | None, n_special: int, version: str) -> dict[str, Any]:
    content: dict[str, Any] = {
        "config": {
            "pattern": TEKKEN,
            "num_vocab_tokens": len(tokens),
            "default_vocab_size": len(tokens) + n_special,
            "default_num_special_tokens": n_special,
            "version": version,
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
            for rank, token in enumerate(tokens)
        ],
    }
    if special is not None:
        content["special_tokens"] = [
            {"rank": index, "token_str": text, "is_control": True} for index, text in enumerate(special)
        ]
    return content


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
