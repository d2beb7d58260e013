"""Know a pre-tokenizer by the ids of llama.cpp's check text: for ways of splitting that only the published files have."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from toolkit.tokenizer.pre_tokenizer_hashes import HASHED_NAMES

CHECK_TEXT = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ (multiple emojis concatenated) ✅ 🦙🦙 "
    "3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ "  # noqa: RUF001
    "------======= нещо на Български ''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? "
    "'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"
)


def name_by_hash(tokenizer_json: Mapping[str, Any]) -> str | None:
    """Return llama.cpp's name for the tokenizer that gives the check text these ids, None if it knows none.

    One added token or another merge is enough to miss it, so the steps of the pre-tokenizer come first.
    """
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
