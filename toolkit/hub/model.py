"""Names of models on the hub."""

import re
from dataclasses import dataclass

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


def parse_hub_model(text: str) -> HubModel | None:
    """Return what `org/name[@revision]` means, None if the text looks like a path."""
    match = _MODEL.fullmatch(text)
    if match is None or match["repo"].startswith((".", "-")) or match["repo"].endswith(_FILE_SUFFIXES):
        return None
    return HubModel(match["repo"], match["revision"] or "main")
