"""Keys of the architecture are held against those that the source implies."""

from dataclasses import replace

import pytest

from toolkit.gguf.format import float32
from toolkit.gguf.reader import read_gguf
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.verification.architecture import check_architecture
from toolkit.verification.check import Outcome

EPSILON, BASE = "llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"


@pytest.fixture
def path(converted):
    return converted("llama3", "q8_0")


def check_of(path, metadata):
    return check_architecture(
        source_from_gguf(path, allow_requantize=True), replace(read_gguf(path), metadata=metadata)
    )


def test_a_key_that_is_absent_is_told(path):
    metadata = read_gguf(path).metadata
    check = check_of(path, {key: value for key, value in metadata.items() if key != EPSILON})
    assert (check.outcome, check.observed) == (Outcome.FAIL, "1 differ")
    assert check.evidence.startswith(f"{EPSILON} is absent, expected ")


@pytest.mark.parametrize(("change", "outcome"), [(1.0, Outcome.PASS), (1 + 1e-7, Outcome.PASS), (1.001, Outcome.FAIL)])
def test_a_number_may_be_off_by_its_rounding_alone(path, change, outcome):
    metadata = read_gguf(path).metadata
    assert check_of(path, metadata | {BASE: float32(metadata[BASE].value * change)}).outcome is outcome
