"""Checkpoints made up here: llama.cpp runs our files of them, and says what transformers says where that knows the family."""

from pathlib import Path

import numpy
import pytest
from architectures.relatives import RELATIVES
from architectures.variants import VARIANTS
from logits import llama_logits, token_ids
from twins import changed_case, convert_edited

GOLDEN = Path(__file__).parents[1] / "golden" / "relatives.npz"
ENCODERS = ("modern_bert", "embedding_gemma", "eurobert", "jina_bert", "llama_embed", "lfm2_embedding")
RUN = ("gemma4_e2b", "gemma4_moe", "glm4v", "glm4v_moe", "glm_ocr", "hunyuan_ocr", "paddleocr_vl", *ENCODERS)
"""Variants that are run beside the relatives: their graphs hold what no case of the kit has."""
CASES = RELATIVES | {name: VARIANTS[name] for name in RUN}
TOLERANCE = {"modern_bert": 2e-3, "falcon_mamba": 1e-3, "embedding_gemma": 4e-3, "glm": 1e-4, "glm4v": 1e-4}
"""llama.cpp reads GELU from a float16 table; Falcon Mamba's mixer has an epsilon of its own in transformers."""


def logits(name, root):
    case, change = CASES[name]
    return llama_logits(convert_edited(changed_case(case, root, change), "f32"), name in ENCODERS, token_ids())


@pytest.mark.parametrize("name", [name for name in CASES if name not in TOLERANCE])
def test_llama_cpp_runs_it(name, tmp_path):
    found = logits(name, tmp_path)
    assert numpy.isfinite(found).all()
    assert found.std() > 0.1


@pytest.mark.parametrize("name", TOLERANCE)
def test_llama_cpp_says_what_transformers_says(name, tmp_path):
    recorded = numpy.load(GOLDEN)[name]
    assert numpy.abs(logits(name, tmp_path) - recorded).max() < TOLERANCE[name]
    assert recorded.std() > 0.5
