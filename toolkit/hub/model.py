"""What models on the hub are called, and which files of a repository a checkpoint consists of.

The files are those that `checkpoint` would choose among, and no others.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from toolkit.checkpoint.checkpoint import ADAPTER_MARKS, INDEX
from toolkit.checkpoint.mistral_format import PARAMS, STEM, is_mistral_format

_MODEL = re.compile(r"(?:https://huggingface\.co/)?(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?/?", re.ASCII)
_FILE_SUFFIXES = (".gguf", ".json", ".safetensors", ".bin")


@dataclass(frozen=True)
class HubModel:
    """A repository on the hub, at a branch, tag or commit."""

    repo: str
    revision: str = "main"

    def __str__(self) -> str:
        """Return `org/name`, with the revision unless it is the usual one."""
        return self.repo if self.revision == "main" else f"{self.repo}@{self.revision}"


def cache_name(repo: str) -> str:
    """Return the name of a model's folder in the cache of the hub's tools."""
    return f"models--{repo.replace('/', '--')}"


def parse_hub_model(text: str) -> HubModel | None:
    """Return what `org/name[@revision]` means, None if the text looks like a path."""
    match = _MODEL.fullmatch(text)
    if match is None or match["repo"].startswith((".", "-")) or match["repo"].endswith(_FILE_SUFFIXES):
        return None
    return HubModel(match["repo"], match["revision"] or "main")


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
    """Return the files that bear the name of weights; of safetensors files, else all but adapters."""
    named = tuple(name for name in candidates if _SHARD.fullmatch(name))
    others = (name for name in candidates if name not in ADAPTER_MARKS)
    return named or (tuple(others) if suffix == ".safetensors" else ())
