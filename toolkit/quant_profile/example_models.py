"""Shapes of well-known models, and what a profile makes of them."""

import math
from dataclasses import dataclass

from toolkit.gguf.format import EMBEDDING, OUTPUT
from toolkit.quant_profile.assignment import TypeChoice, assign_types
from toolkit.quant_profile.profile import ModelTraits, QuantProfile

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class ExampleModel:
    """The numbers that decide the tensors of a llama-like decoder."""

    title: str
    traits: ModelTraits
    hidden: int
    feed_forward: int
    """width of the feed-forward layer; of one expert, where there are experts"""
    head: int
    vocabulary: int
    tied: bool = False

    def tensors(self) -> Shapes:
        """Return names and shapes (row length last) of all tensors."""
        blocks = [tensor for block in range(self.traits.n_layer) for tensor in self._block(f"blk.{block}")]
        embedding = (self.vocabulary, self.hidden)
        output = () if self.tied else ((OUTPUT, embedding),)
        return ((EMBEDDING, embedding), ("output_norm.weight", (self.hidden,)), *output, *blocks)

    def _block(self, prefix: str) -> list[tuple[str, tuple[int, ...]]]:
        queries, keys = self.traits.n_head * self.head, self.traits.n_head_kv * self.head
        shapes = [
            ("attn_norm", (self.hidden,)),
            ("attn_q", (queries, self.hidden)),
            ("attn_k", (keys, self.hidden)),
            ("attn_v", (keys, self.hidden)),
            ("attn_output", (self.hidden, queries)),
            ("ffn_norm", (self.hidden,)),
            *self._feed_forward(),
        ]
        return [(f"{prefix}.{name}.weight", shape) for name, shape in shapes]

    def _feed_forward(self) -> list[tuple[str, tuple[int, ...]]]:
        up, down = (self.feed_forward, self.hidden), (self.hidden, self.feed_forward)
        experts = self.traits.n_expert
        if not experts:
            return [("ffn_gate", up), ("ffn_up", up), ("ffn_down", down)]
        stacks = [
            ("ffn_gate_exps", (experts, *up)),
            ("ffn_up_exps", (experts, *up)),
            ("ffn_down_exps", (experts, *down)),
        ]
        return [("ffn_gate_inp", (experts, self.hidden)), *stacks]


def _dense(title: str, layers: int, heads: tuple[int, int], sizes: tuple[int, int, int], tied: bool) -> ExampleModel:
    hidden, feed_forward, vocabulary = sizes
    traits = ModelTraits("llama", layers, *heads)
    return ExampleModel(title, traits, hidden, feed_forward, hidden // heads[0], vocabulary, tied)


EXAMPLE_MODELS = {
    "llama-2-7b": _dense("Llama 2 7B", 32, (32, 32), (4096, 11008, 32000), tied=False),
    "llama-3.2-1b": _dense("Llama 3.2 1B", 16, (32, 8), (2048, 8192, 128256), tied=True),
    "llama-3.1-8b": _dense("Llama 3.1 8B", 32, (32, 8), (4096, 14336, 128256), tied=False),
    "llama-3.1-70b": _dense("Llama 3.1 70B", 80, (64, 8), (8192, 28672, 128256), tied=False),
    "smollm2-135m": _dense("SmolLM2 135M", 30, (9, 3), (576, 1536, 49152), tied=True),
    "mixtral-8x7b": ExampleModel("Mixtral 8x7B", ModelTraits("llama", 32, 32, 8, 8), 4096, 14336, 128, 32000),
    "qwen3-30b-a3b": ExampleModel("Qwen3 30B-A3B", ModelTraits("qwen3moe", 48, 32, 4, 128), 2048, 768, 128, 151936),
}
TYPICAL_MODEL = "llama-2-7b"


@dataclass(frozen=True)
class ProfilePreview:
    """The types that a profile gives to a model."""

    profile: QuantProfile
    model: ExampleModel
    has_imatrix: bool
    types: dict[str, TypeChoice]
    """by name, for every tensor of the model"""

    @property
    def bits_per_weight(self) -> float:
        """Return the bits of all tensors, divided by their weights."""
        shapes = self.model.tensors()
        n_bytes = sum(self.types[name].type.tensor_bytes(shape) for name, shape in shapes)
        return 8 * n_bytes / sum(math.prod(shape) for _, shape in shapes)


def preview_profile(
    profile: QuantProfile, model: str = TYPICAL_MODEL, *, has_imatrix: bool | None = None
) -> ProfilePreview:
    """Return what a profile makes of an example model; by default with an importance matrix if the profile needs one.

    Raises ProfileError if one of its name patterns matches none of the model's tensors.
    """
    example = EXAMPLE_MODELS[model]
    has_imatrix = profile.needs_imatrix if has_imatrix is None else has_imatrix
    return ProfilePreview(
        profile, example, has_imatrix, assign_types(profile, example.tensors(), example.traits, has_imatrix)
    )
