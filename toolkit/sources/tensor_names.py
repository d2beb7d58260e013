"""Bring the tensor names of a checkpoint to the form that the rules of architectures use.

The same weights are published under `model.layers…`, bare `layers…`, or inside a multimodal model.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from toolkit.architectures.parts.base import Naming
from toolkit.checkpoint.checkpoint import Checkpoint
from toolkit.checkpoint.tensor import CheckpointTensor
from toolkit.errors import TensorError

_SEEING = r"vision|visual|vision_\w+|embed_vision|vit|vit_large_projector|vpm|siglip2|vqmodel|generation_(?:embeddings|aligner|head)"
_HEARING = (
    r"audio|audio_\w+|embed_audio|conformer|sound_encoder|sound_projection|speech_embeddings|talker|token2wav|code2wav"
)
_BETWEEN = (
    r"multi_modal_projector|mm_projector|connector|aligner|resampler|merger|patch_merger|patch_merge_mlp|mlp1|mlp_AR"
    r"|pre_mm_projector_norm|image_newline|view_seperator"
)
MULTIMODAL = re.compile(rf"(.*\.)?({_SEEING}|{_HEARING}|{_BETWEEN})\..*|(.*\.)?(image_newline|view_seperator)")
"""tensors beside a language model, by the names that models of all kinds give to their modules"""
MULTI_TOKEN_PREDICTION = re.compile(r"(model\.)?mtp\..*")
_WRAPPER = re.compile(
    r"(?<![^.])(_orig_mod|module|_checkpoint_wrapped_module|_fsdp_wrapped_module|_fpw_module|_forward_module)\."
)
"""what torch.compile, DistributedDataParallel, activation checkpointing and FSDP put around a module"""
_ADAPTER = re.compile(r"(.*)\.(base_layer|lora_[AB]|lora_embedding_[AB]|modules_to_save|original_module)\b.*")


@dataclass(frozen=True)
class NamedTensors:
    """Tensors under `model.…` and `lm_head.…`, and those left out by a rule (name -> why)."""

    tensors: dict[str, CheckpointTensor]
    left_out: dict[str, str]


def without_wrappers(names: Iterable[str]) -> dict[str, str]:
    """Return names -> names without the parts that training wrappers add.

    Raises TensorError if two names become one.
    """
    bare: dict[str, str] = {}
    for name in names:
        first = bare.setdefault(_WRAPPER.sub("", name), name)
        if first != name:
            raise TensorError(f"{first} and {name} are the same tensor, with a training wrapper's name and without")
    return {name: result for result, name in bare.items()}


def unwrapped(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with its tensors under names without the wrappers of training.

    Raises TensorError as `without_wrappers` does.
    """
    names = without_wrappers((*checkpoint.tensors, *checkpoint.lost))
    changed = [name for name, bare in names.items() if name != bare]
    if not changed:
        return checkpoint
    wrappers = sorted({match[1] for name in changed for match in _WRAPPER.finditer(name)})
    return replace(
        checkpoint,
        tensors={names[name]: replace(tensor, name=names[name]) for name, tensor in checkpoint.tensors.items()},  # type: ignore[type-var]  # tensors are dataclasses
        lost={names[name]: file for name, file in checkpoint.lost.items()},
        notes=(*checkpoint.notes, f"took {', '.join(wrappers)} out of the names of {len(changed)} tensors"),
    )


def canonical_names(tensors: Mapping[str, CheckpointTensor], naming: Naming) -> NamedTensors:
    """Return the tensors of the language model under the names that architectures use.

    The decoder's prefix is that of the embedding's name; all its tensors must have it.

    Raises TensorError for an unmerged adapter, and for names of two styles side by side.
    """
    _refuse_adapters(tensors)
    left_out = {name: why for name in tensors if (why := _why_left_out(name, naming)) is not None}
    decoder = _decoder_prefix((name for name in tensors if name not in left_out), naming)
    renamed: dict[str, CheckpointTensor] = {}
    for name, tensor in tensors.items():
        if name in left_out:
            continue
        canonical = _canonical(name, decoder, naming)
        if canonical in renamed:
            raise TensorError(f"{name} and {renamed[canonical].name} are the same tensor in two styles of naming")
        renamed[canonical] = tensor
    return NamedTensors(renamed, left_out)


def layers_present(names: Iterable[str], naming: Naming) -> set[int]:
    """Return the numbers of the blocks that have any tensor."""
    pattern = re.compile(rf"model\.{naming.blocks}\.(\d+)\.")
    return {int(match[1]) for name in names if (match := pattern.match(name))}


def _refuse_adapters(tensors: Mapping[str, CheckpointTensor]) -> None:
    modules = {match[1] for name in tensors if (match := _ADAPTER.fullmatch(name))}
    if modules:
        raise TensorError(
            f"an unmerged adapter ({len(modules)} modules, first {min(modules)}): "
            "call merge_and_unload() and save again; adapter tensors are never dropped in silence"
        )


def _why_left_out(name: str, naming: Naming) -> str | None:
    if MULTIMODAL.fullmatch(name):
        return "vision or audio tensors"
    if MULTI_TOKEN_PREDICTION.fullmatch(name) and not naming.multi_token_prediction:
        return "multi-token prediction head, which llama.cpp does not run for this architecture"
    return None


def _decoder_prefix(names: Iterable[str], naming: Naming) -> str:
    embedding = re.compile(rf"(.*\.)?{naming.embedding}\.weight")
    inside = re.compile(rf"(.*\.)?{naming.blocks}\.\d+\.")
    candidates = (match[1] or "" for name in names if (match := embedding.fullmatch(name)))
    prefixes = sorted({prefix for prefix in candidates if not inside.match(prefix)}, key=len)
    if len(prefixes) > 1:
        first, second = (f"{prefix}{naming.embedding}.weight" for prefix in prefixes[:2])
        raise TensorError(f"{first} and {second} are both there: tensors of two styles of naming, or of two models")
    return prefixes[0] if prefixes else "model."


def _canonical(name: str, decoder: str, naming: Naming) -> str:
    if re.fullmatch(rf"(.*\.)?{naming.output}\.\w+", name) and not re.search(rf"\b{naming.blocks}\.\d", name):
        return name[name.rindex(f"{naming.output}.") :]
    if MULTI_TOKEN_PREDICTION.fullmatch(name):
        return name.removeprefix("model.")
    bare = name.removeprefix(decoder)
    style = re.match(rf"(.*\.)?{naming.blocks}\.\d+\.", name)
    if style and (style[1] or "") != decoder:
        raise TensorError(
            f"{name} is not named like {decoder}{naming.embedding}.weight: tensors of two styles of naming are mixed"
        )
    return "model." + bare if name.startswith(decoder) else name
