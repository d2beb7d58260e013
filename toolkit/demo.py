"""The embedded checkpoint: a small trained Llama, so that the main job can be seen anywhere and offline."""

from pathlib import Path

DEMO = "demo"


def demo_checkpoint() -> Path:
    """Return the folder of the embedded checkpoint."""
    return Path(__file__).parent / "data" / "demo"


def checkpoint_directory(source: str) -> Path:
    """Return the directory that a SRC argument means: `demo`, or a path."""
    if source == DEMO and not Path(source).exists():
        return demo_checkpoint()
    return Path(source)
