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

_EMBEDDING = re.compile(r"(.*\.)?embed_tokens\.weight")
_OUTPUT = re.compile(r"(.*\.)?lm_head\.\w+")


@dataclass(frozen=True)
class NamedTensors:
    """Tensors under `model.…` and `lm_head.…`, and those left out by a rule (name -> why)."""

    tensors: dict[str, StoredTensor]
    left_out: dict[str, str]


def canonical_names(tensors: Mapping[str, StoredTensor]) -> NamedTensors:
    """Return the tensors of the language model under the names that architectures use.

    The decoder's prefix is what stands before `embed_tokens`; all its tensors must have it.

    Raises TensorError for an unmerged adapter, and for names of two styles side by side.
    """
    _refuse_adapters(tensors)
    left_out = {name: why for name in tensors if (why := _foreign(name)) is not None}
    decoder = _decoder_prefix(name for name in tensors if name not in left_out)
    renamed: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        if name in left_out:
            continue
        canonical = _canonical(name, decoder)
        if canonical in renamed:
            raise TensorError(f"{name} and {renamed[canonical].name} are the same tensor in two styles of naming")
        renamed[canonical] = tensor
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


def _decoder_prefix(names: Iterable[str]) -> str:
    prefixes = sorted({match[1] or "" for name in names if (match := _EMBEDDING.fullmatch(name))}, key=len)
    if len(prefixes) > 1:
        first, second = (f"{prefix}embed_tokens.weight" for prefix in prefixes[:2])
        raise TensorError(f"{first} and {second} are both there: tensors of two styles of naming, or of two models")
    return prefixes[0] if prefixes else "model."


def _canonical(name: str, decoder: str) -> str:
    if _OUTPUT.fullmatch(name):
        return name[name.rindex("lm_head.") :]
    bare = name.removeprefix(decoder)
    style = re.match(r"(.*\.)?layers\.\d+\.", name)
    if style and (style[1] or "") != decoder:
        raise TensorError(
            f"{name} is named otherwise than {decoder}embed_tokens.weight: tensors of two styles of naming are mixed"
        )
    return "model." + bare if name.startswith(decoder) else name
