"""Whether a file has its source's vocabulary: tokens, scores, merges, and the ids of special roles."""

import re
from collections.abc import Iterator
from itertools import zip_longest

import numpy

from toolkit.gguf.format import EMBEDDING, Metadata, items
from toolkit.gguf.reader import GgufFile
from toolkit.model_source import ModelSource
from toolkit.tokenizer.vocabulary import TOKENS
from toolkit.verification.check import Check, judged, listed, unknown

_TYPES, _SCORES, _MERGES = (f"tokenizer.ggml.{name}" for name in ("token_type", "scores", "merges"))
_ROLE = re.compile(r"tokenizer\.ggml\.(\w+_token_id|add_\w+_token|add_space_prefix)")
_UNUSED = 5
"""the type of placeholder tokens, which every converter names differently"""


def check_vocabulary(source: ModelSource, file: GgufFile) -> Iterator[Check]:
    """Yield the checks `token count`, `vocabulary` and `special tokens`."""
    expected = items(source.metadata, TOKENS)
    if not expected:
        yield unknown("vocabulary", "the source's tokens", "the source has no vocabulary")
        return
    found = items(file.metadata, TOKENS)
    yield _count(len(expected), len(found), file)
    differences = [
        *_token_differences(source.metadata, file.metadata),
        *_list_differences(source.metadata, file.metadata),
    ]
    observed = f"{len(differences)} differ" if differences else "equal"
    yield judged(
        "vocabulary", not differences, "tokens, types, scores and merges of the source", observed, listed(differences)
    )
    yield _special(source.metadata, file.metadata)


def _count(expected: int, found: int, file: GgufFile) -> Check:
    embedding = file.tensors.get(EMBEDDING)
    rows = embedding.shape[0] if embedding is not None and len(embedding.shape) > 1 else found
    observed = f"{found:,} tokens, {rows:,} rows of the embedding"
    return judged("token count", expected == found == rows, f"{expected:,}", observed)


def _token_differences(source: Metadata, file: Metadata) -> list[str]:
    """Return which tokens have another text or type; of placeholders only the type counts."""
    types, found_types = items(source, _TYPES), items(file, _TYPES)
    texts, found_texts = items(source, TOKENS), items(file, TOKENS)
    if (len(texts), len(types)) != (len(found_texts), len(found_types)):
        return [f"{len(found_texts):,} tokens with {len(found_types):,} types"]
    # A GGUF file may have fewer types than tokens, or none: the missing ones are None.
    pairs = zip(zip_longest(texts, types), zip_longest(found_texts, found_types), strict=True)
    return [
        f"token {index} is {found[0]!r} of type {found[1]}, expected {expected[0]!r} of type {expected[1]}"
        for index, (expected, found) in enumerate(pairs)
        if expected != found and not expected[1] == found[1] == _UNUSED
    ]


def _list_differences(source: Metadata, file: Metadata) -> Iterator[str]:
    scores, found_scores = (numpy.array(items(each, _SCORES), numpy.float32) for each in (source, file))
    if len(scores) and not numpy.array_equal(scores, found_scores):
        yield "the scores" if len(found_scores) else "the scores, which are absent"
    merges, found_merges = items(source, _MERGES), items(file, _MERGES)
    if merges != found_merges:
        yield (
            f"the merges, {len(found_merges):,} instead of {len(merges):,}"
            if len(merges) != len(found_merges)
            else "the merges"
        )


def _special(source: Metadata, file: Metadata) -> Check:
    expected = {match[1]: value.value for key, value in source.items() if (match := _ROLE.fullmatch(key))}
    found = {match[1]: value.value for key, value in file.items() if (match := _ROLE.fullmatch(key))}
    wrong = [
        f"{role} is {found.get(role, 'absent')}, expected {value}"
        for role, value in expected.items()
        if found.get(role) != value
    ]
    added = [role for role in found if role not in expected]
    evidence = [listed(wrong)] if wrong else []
    evidence += [f"the file also has {listed(added)}"] if added else []
    shown = ", ".join(f"{role.removesuffix('_id').replace('_', ' ')} {value}" for role, value in expected.items())
    return judged(
        "special tokens", not wrong, shown or "none", f"{len(wrong)} differ" if wrong else "equal", "; ".join(evidence)
    )
