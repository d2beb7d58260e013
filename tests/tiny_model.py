"""A tiny Llama with random weights and a byte vocabulary, written with the gguf library: real enough for llama.cpp."""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


@dataclass(frozen=True)
class TinyShape:
    n_layer: int = 2
    n_embd: int = 256
    n_head: int = 4
    n_head_kv: int = 2
    n_ff: int = 512
    n_ctx_train: int = 1024
    add_bos: bool = True


def write_tiny_model(
    path: Path, shape: TinyShape = TinyShape(), bad_tensor: str | None = None, without: str | None = None
) -> Path:
    """Write the model; the tensor called `bad_tensor` gets one NaN, the one called `without` is left out."""
    writer = gguf.GGUFWriter(str(path), "llama")
    _write_metadata(writer, shape)
    random = numpy.random.default_rng(7)
    for name, dimensions in _tensors(shape, len(vocabulary())).items():
        if name == without:
            continue
        values = numpy.ones(dimensions) if "norm" in name else random.normal(0, 0.05, dimensions)
        if name == bad_tensor:
            values.flat[5] = numpy.nan
        # Norms stay in float32, as llama.cpp wants them.
        writer.add_tensor(name, values.astype(numpy.float32 if "norm" in name else numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def vocabulary() -> list[tuple[str, int]]:
    """Return (text, type): three special tokens, the 256 bytes, letters and some words."""
    special = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
    single = [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
    letters = [(letter, NORMAL) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
    words = [(word, NORMAL) for word in ("▁a", "▁t", "he", "▁the", "in", "▁o", "▁of", "er", "an", "and", "▁and")]
    return special + single + letters + words


def _write_metadata(writer: gguf.GGUFWriter, shape: TinyShape) -> None:
    writer.add_name("tiny")
    writer.add_context_length(shape.n_ctx_train)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_rope_dimension_count(shape.n_embd // shape.n_head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(vocabulary()))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text.encode() for text, _ in vocabulary()])
    writer.add_token_scores([-float(index) for index in range(len(vocabulary()))])
    writer.add_token_types([kind for _, kind in vocabulary()])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(shape.add_bos)
    writer.add_add_eos_token(False)


def _tensors(shape: TinyShape, n_vocab: int) -> dict[str, tuple[int, ...]]:
    n_kv = shape.n_embd // shape.n_head * shape.n_head_kv
    tensors: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (n_vocab, shape.n_embd),
        "output_norm.weight": (shape.n_embd,),
        "output.weight": (n_vocab, shape.n_embd),
    }
    for layer in range(shape.n_layer):
        block = {
            "attn_norm": (shape.n_embd,),
            "attn_q": (shape.n_embd, shape.n_embd),
            "attn_k": (n_kv, shape.n_embd),
            "attn_v": (n_kv, shape.n_embd),
            "attn_output": (shape.n_embd, shape.n_embd),
            "ffn_norm": (shape.n_embd,),
            "ffn_gate": (shape.n_ff, shape.n_embd),
            "ffn_up": (shape.n_ff, shape.n_embd),
            "ffn_down": (shape.n_embd, shape.n_ff),
        }
        tensors |= {f"blk.{layer}.{name}.weight": dimensions for name, dimensions in block.items()}
    return tensors
