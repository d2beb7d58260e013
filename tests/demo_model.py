"""The embedded checkpoint as a GGUF file, and a text that does not depend on the version of Python."""

from pathlib import Path

from toolkit.conversion.convert import write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.demo import demo_checkpoint
from toolkit.quant_profile import load_profile
from toolkit.sources.hf_source import source_from_checkpoint

FIXED_TEXT = Path(__file__).parent.parent / "LICENSE"
GOLDEN = Path(__file__).parent / "golden"


def convert_demo(folder: Path, profile: str) -> Path:
    """Write the demo model with a profile into a folder."""
    path = folder / f"demo-{profile}.gguf"
    write_gguf(plan_conversion(source_from_checkpoint(demo_checkpoint()), load_profile(profile)), path)
    return path
