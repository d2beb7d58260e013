"""Write the reference fingerprint of a variant: `PYTHON tests/architectures/reference_of_variant.py NAME --llama-cpp DIR`.

PYTHON is an interpreter with what llama.cpp's converter imports: torch, and the transformers version that it pins.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE.parent / "kit")]


def main() -> None:
    """Make the variant, convert it with llama.cpp's own converter to f32, and describe the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="a key of VARIANTS")
    parser.add_argument("--llama-cpp", type=Path, required=True, help="a checkout of llama.cpp")
    parser.add_argument(
        "--pre", default="default", help="name of the BPE pre-tokenizer, which its hash cannot tell here"
    )
    parser.add_argument("--flag", action="append", default=[], help="a flag of the converter: mistral_format, no_mtp")
    arguments = parser.parse_args()
    from reference import Converter

    converter = Converter(arguments.llama_cpp)
    parse = converter._script.parse_args
    converter._script.parse_args = lambda: argparse.Namespace(**vars(parse()) | dict.fromkeys(arguments.flag, True))
    from architectures.variants import VARIANTS  # after Converter has put llama.cpp's own gguf first
    from editable_checkpoint import edit_case
    from fingerprint import fingerprint

    case, change = VARIANTS[arguments.name]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = edit_case(case, Path(folder))
        change(checkpoint)
        converter.convert(checkpoint.save(), Path(folder) / "reference.gguf", "f32", arguments.pre)
        text = json.dumps(fingerprint(Path(folder) / "reference.gguf"), indent=1, ensure_ascii=False)
    (HERE / "reference" / f"{arguments.name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
