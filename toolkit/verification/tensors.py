"""Whether a file has the tensors that its source asks for: all of them, no others, with their shapes and in their blocks."""

import re
from collections import Counter
from collections.abc import Iterator

from toolkit.gguf.format import EMBEDDING, OUTPUT
from toolkit.gguf.reader import GgufFile
from toolkit.model_source import ModelSource
from toolkit.verification.check import Check, judged, listed

_BLOCK = re.compile(r"(?:dec\.)?blk\.(\d+)\.")


def check_tensors(source: ModelSource, file: GgufFile) -> Iterator[Check]:
    """Yield the checks `tensors`, `shapes` and `blocks`."""
    expected = {tensor.name: tensor.shape for tensor in source.tensors}
    found = {name: rows.shape for name, rows in file.tensors.items()}
    yield _compare_names(source, set(expected), set(found))
    wrong = [
        f"{name} is {list(found[name])}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    common = len(expected.keys() & found.keys())
    yield judged(
        "shapes", not wrong, f"{common} as in the source", f"{len(wrong)} differ" if wrong else "equal", listed(wrong)
    )
    yield _blocks(source, file)


def _compare_names(source: ModelSource, expected: set[str], found: set[str]) -> Check:
    missing, surplus = sorted(expected - found), sorted(found - expected)
    # Some converters write a tied output as a tensor of its own; `check_weights` compares it with the embedding.
    if surplus == [OUTPUT] and EMBEDDING in expected:
        surplus = []
    faults = [f"missing: {listed(missing)}"] if missing else []
    faults += [f"not in the source: {listed(surplus)}"] if surplus else []
    reasons = [f"{count} left out: {why}" for why, count in Counter(source.left_out.values()).items()]
    stored = [f"the source stores {source.n_stored}"] if source.n_stored else []
    evidence = "; ".join([*faults, *stored, *reasons])
    return judged("tensors", not faults, str(len(expected)), str(len(found)), evidence)


def _blocks(source: ModelSource, file: GgufFile) -> Check:
    key = f"{source.traits.architecture}.block_count"
    declared = file.metadata[key].value if key in file.metadata else "none"
    present = {int(match[1]) for name in file.tensors if (match := _BLOCK.match(name))}
    expected = source.traits.n_layer
    holds = declared == expected and present == set(range(expected))
    return judged("blocks", holds, str(expected), f"{declared} declared, {len(present)} present")
