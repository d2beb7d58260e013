"""Checkpoints on the Hugging Face hub, fetched into the cache that all its tools share, or outlined without their weights.

Nothing else talks to the hub.
"""

from toolkit.hub.model import HubModel, parse_hub_model
from toolkit.hub.outline import write_outline
from toolkit.hub.repository import (
    Repository,
    cache_folder,
    cached_checkpoint,
    download_checkpoint,
    fetch_dataset_file,
    open_repository,
)

__all__ = [
    "HubModel",
    "Repository",
    "cache_folder",
    "cached_checkpoint",
    "download_checkpoint",
    "fetch_dataset_file",
    "open_repository",
    "parse_hub_model",
    "write_outline",
]
