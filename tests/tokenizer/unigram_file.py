"""Small unigram vocabularies, trained on the spot, as a sentencepiece file and as the tokenizer.json that means the same."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import sentencepiece

from toolkit.tokenizer.sentencepiece_model import read_settings

RULES = "FF21\t41\nFB01\t66 69\n"
"""Fullwidth A becomes A, the ligature fi two letters."""
TEXTS = ["hello world this is a text", "world of texts, hello again", "A file of this and that"] * 20


def train_unigram(folder: Path, size: int = 60, **options: Any) -> bytes:
    """Return a serialized sentencepiece model with a table of replaced letters, trained on TEXTS."""
    rules = folder / "rules.tsv"
    rules.write_text(RULES, encoding="utf-8")
    settings = {"model_type": "unigram", "normalization_rule_tsv": str(rules), "minloglevel": 2, "num_threads": 1}
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, vocab_size=size, hard_vocab_limit=False, **settings | options
    )
    return model.getvalue()


def xlm_roberta_json(model: bytes, charsmap: bytes) -> dict[str, Any]:
    """Return the tokenizer.json of XLM-RoBERTa's form for a sentencepiece model: ids moved by one, `<mask>` at the end."""
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    first = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]
    vocabulary = first + [[pieces.id_to_piece(i), pieces.get_score(i)] for i in range(3, pieces.vocab_size())]
    vocabulary.append(["<mask>", 0.0])
    special = {index: str(vocabulary[index][0]) for index in (0, 1, 2, 3, len(vocabulary) - 1)}
    start, end = ({"SpecialToken": {"id": text, "type_id": 0}} for text in ("<s>", "</s>"))
    one, other = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    flags = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "added_tokens": [{"id": index, "content": text, **flags} for index, text in special.items()],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, one, end],
            "pair": [start, one, end, end, other, end],
            "special_tokens": {text: {"id": text, "ids": [i], "tokens": [text]} for i, text in special.items()},
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocabulary, "byte_fallback": False},
    }


def write_xlm_roberta_json(directory: Path) -> None:
    """Write the tokenizer.json that a directory's sentencepiece file stands for, with a table of replaced letters."""
    charsmap = read_settings(train_unigram(directory)).precompiled_charsmap
    (directory / "rules.tsv").unlink()
    content = xlm_roberta_json((directory / "sentencepiece.bpe.model").read_bytes(), charsmap)
    (directory / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
