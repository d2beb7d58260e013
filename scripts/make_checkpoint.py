#!/usr/bin/env python3
"""Write a Llama checkpoint of 1.1 billion random bf16 weights, in the shape of TinyLlama: for benchmarks, offline.

.venv/bin/python scripts/make_checkpoint.py ./TinyLlama-shaped [--layers 22] [--sparse]
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy
from numpy.typing import NDArray

from toolkit.demo import demo_checkpoint

BLOCK = 1 << 22
STANDARD_DEVIATION = 0.02


@dataclass(frozen=True)
class Shape:
    """The lengths that make up the model."""

    layers: int = 22
    hidden: int = 2048
    heads: int = 32
    kv_heads: int = 4
    feed_forward: int = 5632
    vocabulary: int = 32000

    def config(self) -> dict[str, object]:
        """Return config.json."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.feed_forward,
            "max_position_embeddings": 2048,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 1e-05,
            "rope_theta": 10000.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        }

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor, row length last."""
        found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocabulary, self.hidden)}
        for layer in range(self.layers):
            found |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in self._block().items()}
        return found | {"model.norm.weight": (self.hidden,), "lm_head.weight": (self.vocabulary, self.hidden)}

    def _block(self) -> dict[str, tuple[int, ...]]:
        key_value = self.hidden // self.heads * self.kv_heads
        return {
            "input_layernorm": (self.hidden,),
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (key_value, self.hidden),
            "self_attn.v_proj": (key_value, self.hidden),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "post_attention_layernorm": (self.hidden,),
            "mlp.gate_proj": (self.feed_forward, self.hidden),
            "mlp.up_proj": (self.feed_forward, self.hidden),
            "mlp.down_proj": (self.hidden, self.feed_forward),
        }


def write_checkpoint(directory: Path, shape: Shape, *, sparse: bool = False) -> None:
    """Write config, vocabulary and weights; the same bytes every time. `sparse` weights are a hole in the file: zeros.

    The vocabulary is the embedded demo's; both converters fill it up to `shape.vocabulary` with unused tokens.
    """
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(shape.config(), indent=2), encoding="utf-8")
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copyfile(demo_checkpoint() / name, directory / name)
    tensors = shape.tensors()
    with (directory / "model.safetensors").open("wb") as file:
        file.write(header(tensors))
        if sparse:
            file.truncate(file.tell() + 2 * sum(map(prod, tensors.values())))
            return
        random = numpy.random.Generator(numpy.random.SFC64(1))
        for lengths in tensors.values():
            for block in weights(lengths, random):
                file.write(block.data)


def header(tensors: dict[str, tuple[int, ...]]) -> bytes:
    """Return the header of the safetensors file with its length before it."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors.items():
        begin, end = end, end + 2 * prod(shape)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(entries).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text


def weights(shape: tuple[int, ...], random: numpy.random.Generator) -> Iterator[NDArray[numpy.uint16]]:
    """Yield the bf16 bits of a tensor in blocks: ones for a norm, else normally distributed."""
    for start in range(0, prod(shape), BLOCK):
        count = min(BLOCK, prod(shape) - start)
        if len(shape) == 1:
            values = numpy.ones(count, numpy.float32)
        else:
            values = random.standard_normal(count, numpy.float32) * numpy.float32(STANDARD_DEVIATION)
        yield (values.view(numpy.uint32) >> 16).astype(numpy.uint16)


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the checkpoint directory to make")
    parser.add_argument("--layers", type=int, default=Shape.layers, help="fewer for a quick run (default: %(default)s)")
    parser.add_argument("--sparse", action="store_true", help="zeros that take no space, where only shapes matter")
    arguments = parser.parse_args()
    if arguments.out.exists():
        sys.exit(f"make_checkpoint: {arguments.out} exists already; remove it or name another directory")
    write_checkpoint(arguments.out, Shape(layers=arguments.layers), sparse=arguments.sparse)


if __name__ == "__main__":
    main()
