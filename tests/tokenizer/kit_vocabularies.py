"""The kit's cases as requests, and metadata described the way the kit's reference describes it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compare
import numpy
from fingerprint import FIRST_ITEMS, LONGEST_PLAIN_ARRAY, plain

from toolkit.gguf.format import MetadataValue, ValueType
from toolkit.tokenizer import LLAMA_STYLES, TokenizerRequest

SOURCES = compare.KIT / "sources"
OF_LLAMA = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "MixtralForCausalLM",
    "SmolLM3ForCausalLM",
    "ApertusForCausalLM",
    "ArceeForCausalLM",
    "GraniteForCausalLM",
    "GraniteMoeForCausalLM",
)
"""The architectures whose vocabularies llama.cpp's converter reads with LlamaModel.set_vocab."""

STYLES = {
    "Gemma4ForCausalLM": ("gemma4",),
    "BertModel": ("wordpiece",),
    "NomicBertModel": ("wordpiece",),
    "XLMRobertaModel": ("xlm_roberta",),
    "T5ForConditionalGeneration": ("t5",),
    **dict.fromkeys(OF_LLAMA, LLAMA_STYLES),
}
OF_THE_MODEL = ("tokenizer.ggml.token_type_count",)
"""A key that stands among the vocabulary's but counts the rows of an embedding of the model."""
TOKENS, TYPES, SCORES = (f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "scores"))


def kit_request(case: str, directory: Path | None = None, **changes: Any) -> TokenizerRequest:
    """Return the request for a case; the rows are those of the embedding that the reference wrote."""
    config = json.loads((SOURCES / case / "config.json").read_text(encoding="utf-8"))
    config |= config.get("text_config", {})
    tensors = compare.read_reference(case, "f32")["tensors"]
    n_rows = next(tensor["shape"][1] for tensor in tensors if tensor["name"] == "token_embd.weight")
    styles = STYLES.get(config["architectures"][0], ("sentencepiece", "bpe"))
    fields = {"config": config, "n_embedding_rows": n_rows, "styles": styles} | changes
    return TokenizerRequest(directory or SOURCES / case, **fields)


def copied(case: str, tmp_path: Path, *left_out: str) -> Path:
    """Return a copy of a case's files that a test may change, without those named."""
    directory = tmp_path / case
    shutil.copytree(SOURCES / case, directory, ignore=shutil.ignore_patterns(*left_out))
    return directory


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file in place."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def describe(value: MetadataValue) -> dict[str, Any]:
    """Return type and value as fingerprint.describe_field does for a value read from a file."""
    if value.type != ValueType.ARRAY:
        return {"type": value.type.name, "value": plain(value.value)}
    items = list(value.value)
    if value.item_type == ValueType.FLOAT32:
        items = numpy.array(items, dtype=numpy.float32).astype(float).tolist()
    items = plain(items)
    kind = f"{value.item_type.name}[]"
    if len(items) <= LONGEST_PLAIN_ARRAY:
        return {"type": kind, "value": items}
    digest = hashlib.sha256(json.dumps(items, ensure_ascii=False).encode("utf-8")).hexdigest()
    return {"type": kind, "length": len(items), "first": items[:FIRST_ITEMS], "sha256": digest}


def tokenizer_differences(case: str, metadata: dict[str, MetadataValue]) -> list[str]:
    """List how the `tokenizer.*` keys differ from the reference's, with the kit's own comparison."""
    reference = compare.read_reference(case, "f32")["metadata"]
    expected = {
        key: value for key, value in reference.items() if key.startswith("tokenizer.") and key not in OF_THE_MODEL
    }
    ours = {key: describe(value) for key, value in metadata.items()}
    return compare._differences_by_key("metadata", ours, expected)
