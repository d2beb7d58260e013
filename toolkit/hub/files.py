"""Which files of a repository on the hub a checkpoint consists of: as `checkpoint` would choose among them, and no others."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from toolkit.checkpoint.checkpoint import ADAPTER_MARKS, INDEX
from toolkit.checkpoint.mistral_format import PARAMS, STEM, is_mistral_format

TORCH_INDEX = "pytorch_model.bin.index.json"
_DESCRIPTION = (
    "config.json", PARAMS, "generation_config.json", "README.md",
    "*quant*_config.json",
    "tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json",
    "tokenizer.model", "tokenizer.model.v*", "vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model",
    "tekken.json", "*.tiktoken", "tiktoken.model", "chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja",
    "modules.json", "*_Pooling/config.json",
)  # fmt: skip
_SHARD = re.compile(r"(?:model|pytorch_model)(?:-\d+-of-\d+)?\.(?:safetensors|bin)")


@dataclass(frozen=True)
class NeededFiles:
    """What to fetch: `description` always, then the shards that `index` names, or without an index `weights`."""

    description: tuple[str, ...]
    index: str | None
    weights: tuple[str, ...]


def needed_files(listing: Iterable[str]) -> NeededFiles:
    """Choose among the paths of a repository: the index before a glob, safetensors before PyTorch, an adapter by itself."""
    names = sorted(listing)
    description = tuple(name for name in names if any(fnmatchcase(name, pattern) for pattern in _DESCRIPTION))
    if "config.json" not in names and set(ADAPTER_MARKS) & set(names):
        return NeededFiles(description, None, tuple(name for name in names if name in ADAPTER_MARKS))
    if is_mistral_format(names):
        return NeededFiles(
            description, None, tuple(name for name in names if fnmatchcase(name, f"{STEM}*.safetensors"))
        )
    for index, suffix in ((INDEX, ".safetensors"), (TORCH_INDEX, ".bin")):
        if index in names:
            return NeededFiles((*description, index), index, ())
        weights = _weights([name for name in names if name.endswith(suffix) and "/" not in name], suffix)
        if weights:
            return NeededFiles(description, None, weights)
    return NeededFiles(description, None, ())


def _weights(candidates: list[str], suffix: str) -> tuple[str, ...]:
    """Return the files that bear the name of weights; of safetensors, else any that is no adapter."""
    named = tuple(name for name in candidates if _SHARD.fullmatch(name))
    others = (name for name in candidates if name not in ADAPTER_MARKS)
    return named or (tuple(others) if suffix == ".safetensors" else ())
