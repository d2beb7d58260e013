"""The embedded checkpoint: a small trained Llama, so that the main job can be seen anywhere and offline."""

from pathlib import Path

DEMO = "demo"
_MARKS = ("config.json", "params.json")


def demo_checkpoint() -> Path:
    """Return the folder of the embedded checkpoint."""
    return Path(__file__).parent / "data" / "demo"


def checkpoint_directory(source: str) -> Path:
    """Return the directory that a SRC argument means: a path, or `demo` where no model lies in a folder of that name."""
    return demo_checkpoint() if source == DEMO and not _holds_model(Path(source)) else Path(source)


def _holds_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _MARKS) or any(folder.glob("*.gguf"))
