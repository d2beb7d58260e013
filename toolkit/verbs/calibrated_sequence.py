"""A conversion whose weights are rounded in sequence, from a text: what `convert --sequential` does before it writes."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.calibration.block_model import blocks_for, write_blocks
from toolkit.calibration.sequential import SequenceSettings, calibrate_in_sequence, cut_chunks
from toolkit.calibration.store import Tokens
from toolkit.conversion.tensor_plan import CALIBRATED, ROUNDING, ConversionPlan, plan_conversion
from toolkit.gguf.format import string
from toolkit.gguf.layout import lay_out
from toolkit.gguf.scratch import ScratchFolder
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.evaluation_text import EvaluationText, named_text, tokens_of
from toolkit.model_source import ModelSource, unquantized_profile
from toolkit.quant_profile import load_profile
from toolkit.reporter import Reporter

if TYPE_CHECKING:
    from toolkit.verbs.conversion import ConversionFields

CHUNK = 256
"""tokens of a chunk"""
TEXT_DIGEST = "quantize.text_sha256"


@contextmanager
def rounded_in_sequence(
    source: ModelSource, plan: ConversionPlan, output: Path, fields: "ConversionFields", reporter: Reporter
) -> Iterator[ConversionPlan]:
    """Give the plan with its rows rounded.

    What a killed run had done lies beside the output, and the same conversion goes on with it; the folder is removed once
    the block ends well.

    Raises InputError for a model whose blocks cannot be followed, TextError or InputError for a text that is too short.
    """
    assert fields.text is not None
    text = named_text(fields.text)
    original = plan_conversion(source, load_profile(unquantized_profile(source)))
    chunks = _chunks(original, text, fields.chunks)
    metadata = plan.metadata | {ROUNDING: string(CALIBRATED), TEXT_DIGEST: string(text.sha256)}
    plan = replace(plan, metadata=metadata, layout=lay_out(metadata, plan.tensors))
    folder = output.with_name(f".{output.name}.calibration")
    with reporter.task("calibrating") as task:
        settings = SequenceSettings(threads=fields.threads)
        yield calibrate_in_sequence(original, plan, chunks, folder, settings, task)
    shutil.rmtree(folder)


def _chunks(original: ConversionPlan, text: EvaluationText, most: int | None) -> Tokens:
    """Return the tokens of a text, as the model's own first block, which has the vocabulary, cuts them."""
    with ScratchFolder() as folder:
        path = folder / "vocabulary.gguf"
        write_blocks(original, blocks_for(original.metadata, 0), path)
        with LlamaRuntime(path, RunSettings(n_ctx=CHUNK, device_pointers=())) as runtime:
            return cut_chunks(tokens_of(runtime, text), CHUNK, runtime.bos_token, most)
