"""Bring the tensor names of a checkpoint to the one form that architectures speak of.

The same weights are published under `model.layers…`, bare `layers…`, or inside a multimodal model.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from toolkit.errors import TensorError
from toolkit.safetensors_reader import StoredTensor

MULTIMODAL = re.compile(
    r"(.*\.)?(vision_\w+|visual|vision|audio_\w+|audio|multi_modal_projector|mm_projector|image_newline|patch_merger)\..*"
    r"|(.*\.)?image_newline"
)
MULTI_TOKEN_PREDICTION = re.compile(r"(model\.)?mtp\..*")
_ADAPTER = re.compile(r"(.*)\.(base_layer|lora_[AB]|lora_embedding_[AB]|modules_to_save|original_module)\b.*")
_LAYERS = re.compile(r"model\.layers\.(\d+)\.")

_PREFIXES = (
    ("model.language_model.", "lm_head."),
    ("language_model.model.", "language_model.lm_head."),
    ("model.", "lm_head."),
    ("", "lm_head."),
)
"""The prefix of the decoder and that of the output, most specific first."""


@dataclass(frozen=True)
class NamedTensors:
    """Tensors under `model.…` and `lm_head.…`, and those left out by a rule (name -> why)."""

    tensors: dict[str, StoredTensor]
    left_out: dict[str, str]


def canonical_names(tensors: Mapping[str, StoredTensor]) -> NamedTensors:
    """Return the tensors of the language model under the names that architectures use.

    Raises TensorError for an unmerged adapter.
    """
    _refuse_adapters(tensors)
    left_out = {name: why for name in tensors if (why := _foreign(name)) is not None}
    ours = {name: tensor for name, tensor in tensors.items() if name not in left_out}
    decoder, output = _prefixes(ours)
    renamed = {_rename(name, decoder, output): tensor for name, tensor in ours.items()}
    return NamedTensors(renamed, left_out)


def layers_present(names: Iterable[str]) -> set[int]:
    """Return the numbers of the blocks that have any tensor."""
    return {int(match[1]) for name in names if (match := _LAYERS.match(name))}


def _refuse_adapters(tensors: Mapping[str, StoredTensor]) -> None:
    modules = {match[1] for name in tensors if (match := _ADAPTER.fullmatch(name))}
    if modules:
        raise TensorError(
            f"an unmerged adapter ({len(modules)} modules, first {min(modules)}): "
            "call merge_and_unload() and save again; adapter tensors are never dropped in silence"
        )


def _foreign(name: str) -> str | None:
    if MULTIMODAL.fullmatch(name):
        return "vision or audio tensors"
    if MULTI_TOKEN_PREDICTION.fullmatch(name):
        return "multi-token prediction head, which llama.cpp does not run for this architecture"
    return None


def _prefixes(tensors: Mapping[str, StoredTensor]) -> tuple[str, str]:
    for decoder, output in _PREFIXES:
        if f"{decoder}embed_tokens.weight" in tensors:
            return decoder, output
    return "model.", "lm_head."


def _rename(name: str, decoder: str, output: str) -> str:
    if name.startswith(output):
        return "lm_head." + name.removeprefix(output)
    return "model." + name.removeprefix(decoder) if name.startswith(decoder) else name
