"""The child process of `opening`: opens a file whole, and may die of it.

As a program: reads one JSON request on stdin, {path, settings}, and writes {can_be_mapped} or {kind, error}.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit.errors import GgufError, ToolkitError
from toolkit.gguf.format import Metadata, ModelKeys
from toolkit.gguf.ggml_types import F32, TensorType
from toolkit.gguf.reader import read_gguf
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.native import llama_cpp
from toolkit.llama.opening import MAPPED_ALIGNMENT, Opening, this_process_may_die
from toolkit.llama.parameters import LOAD_INTO_BUFFERS, ModelParameters, context_parameters, load_model, refusal_of
from toolkit.llama.vocabulary import detokenize, has_text, tokenize

_NO_ROTATION = -1
"""`LLAMA_ROPE_TYPE_NONE`"""
_TEXT = "The quick brown fox jumps over 12 lazy dogs"
"""letters, digits and spaces: any other character may be missing in a vocabulary that is of use all the same"""
_NEVER_COMPUTED = ("F64", "I8", "I16", "I64")


def open_whole(path: Path, settings: LoadSettings) -> Opening:
    """Load a file without its weights, split a text with its vocabulary, make a context, and free all of it.

    No memory is allocated for weights, cache or graph. Raises GgufError if llama.cpp refuses the file or the settings, or
    would end over a number once it computes.
    """
    parameters = ModelParameters(settings, [])
    parameters.structure.vocab_only = vocabulary_only = _holds_no_tensor(path)
    parameters.structure.load_mode, parameters.structure.no_alloc = LOAD_INTO_BUFFERS, True
    model = load_model(path, parameters.structure)
    try:
        rotates = llama_cpp().llama_model_rope_type(model) != _NO_ROTATION
        vocabulary = llama_cpp().llama_model_get_vocab(model)
        if has_text(vocabulary):
            detokenize(vocabulary, tokenize(vocabulary, _TEXT, parse_special=True), special=True)
        if not vocabulary_only:
            context = llama_cpp().llama_init_from_model(model, context_parameters(settings))
            if not context:
                raise refusal_of(path)
            llama_cpp().llama_free(context)
    finally:
        llama_cpp().llama_model_free(model)
    file = read_gguf(path)
    _check_numbers(path, file.metadata, rotates=rotates)
    check_types(path, {name: rows.type for name, rows in file.tensors.items()})
    return Opening(all(offset % MAPPED_ALIGNMENT == 0 for offset in file.tensor_offsets.values()))


def _holds_no_tensor(path: Path) -> bool:
    """Tell whether a file is a vocabulary and no more; of one that is damaged llama.cpp says more itself."""
    try:
        return not read_gguf(path).tensors
    except GgufError:
        return False


def _check_numbers(path: Path, metadata: Metadata, *, rotates: bool) -> None:
    """Refuse what ggml asserts of norms and rotations only when it computes them."""
    for key, entry in metadata.items():
        # NaN is not at least 0 either.
        if key.endswith("epsilon") and isinstance(entry.value, float) and not entry.value >= 0:
            raise GgufError(f"{path}: {key} is {entry.value}, and no norm can be computed with that: damaged")
    keys = ModelKeys(metadata)
    for suffix in ("rope.dimension_count", "rope.dimension_count_swa") if rotates else ():
        rotated, most = (
            keys.integer(suffix),
            keys.integer("attention.key_length" + suffix.removeprefix("rope.dimension_count")),
        )
        if rotated is not None and (rotated < 2 or rotated % 2 or (most is not None and rotated > most)):
            raise GgufError(
                f"{path}: {keys.architecture}.{suffix} is {rotated}, and it must be even, at least 2, and no more than the "
                f"{'length' if most is None else most} of a key: damaged"
            )


def check_types(path: Path, types: Mapping[str, TensorType]) -> None:
    """Refuse types that ggml has no product or sum for: it ends the process over them only when it computes."""
    for name, type_ in types.items():
        is_added = name.endswith(".bias") or "norm" in name
        if type_.name in _NEVER_COMPUTED or (is_added and type_ is not F32):
            raise GgufError(
                f"{path}: {name} is stored as {type_.name}, and llama.cpp computes with it in "
                f"{'F32' if is_added else 'other types'} only: damaged, or made for another program"
            )


def answer_to(path: Path, settings: LoadSettings) -> dict[str, Any]:
    """Return what a child says of a file, as JSON's values."""
    try:
        return asdict(open_whole(path, settings))
    except ToolkitError as error:
        return {"kind": type(error).__name__, "error": str(error)}


def main() -> None:
    """Answer one request."""
    this_process_may_die()
    request = json.load(sys.stdin)
    answer = answer_to(Path(request["path"]), LoadSettings.from_json(request["settings"]))
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
