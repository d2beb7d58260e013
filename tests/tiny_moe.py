"""A tiny mixture of experts with random weights, as llama.cpp knows Mixtral: every token goes to two of eight experts."""

from pathlib import Path

import gguf
import numpy
from tiny_model import TinyShape, _write_metadata, vocabulary

SHAPE = TinyShape(n_layer=2, n_embd=64, n_head=4, n_head_kv=2, n_ff=96)
N_EXPERTS, N_USED = 8, 2


def write_tiny_moe(path: Path) -> Path:
    """Write the model; its router prefers some experts, so that not all see the same number of tokens."""
    writer = gguf.GGUFWriter(str(path), "llama")
    _write_metadata(writer, SHAPE)
    writer.add_expert_count(N_EXPERTS)
    writer.add_expert_used_count(N_USED)
    random = numpy.random.default_rng(11)
    for name, shape in _tensors().items():
        values = numpy.ones(shape) if "norm" in name else random.normal(0, 0.1, shape)
        writer.add_tensor(name, values.astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors() -> dict[str, tuple[int, ...]]:
    n_embd, n_ff, n_kv = SHAPE.n_embd, SHAPE.n_ff, SHAPE.n_embd // SHAPE.n_head * SHAPE.n_head_kv
    tensors: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(vocabulary()), n_embd),
        "output_norm.weight": (n_embd,),
        "output.weight": (len(vocabulary()), n_embd),
    }
    for layer in range(SHAPE.n_layer):
        block = {
            "attn_norm": (n_embd,),
            "attn_q": (n_embd, n_embd),
            "attn_k": (n_kv, n_embd),
            "attn_v": (n_kv, n_embd),
            "attn_output": (n_embd, n_embd),
            "ffn_norm": (n_embd,),
            "ffn_gate_inp": (N_EXPERTS, n_embd),
            "ffn_gate_exps": (N_EXPERTS, n_ff, n_embd),
            "ffn_up_exps": (N_EXPERTS, n_ff, n_embd),
            "ffn_down_exps": (N_EXPERTS, n_embd, n_ff),
        }
        tensors |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
    return tensors
