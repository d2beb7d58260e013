"""How much quality a file lost, for `fit`: against the unquantized model, on the same chunks of a text."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from toolkit.comparison.figures import measurement_of
from toolkit.comparison.quality import BaseModel, ModelFile, TextRequest, quality_of
from toolkit.comparison.rows import Quality
from toolkit.conversion.convert import ConversionOptions, write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.evaluation_text import EvaluationText
from toolkit.measures.verdict import UseVerdict, judge_use
from toolkit.measures.verdict_rules import GENERAL, Level, UseCase
from toolkit.model_source import ModelSource, unquantized_profile
from toolkit.quant_profile import load_profile

CHUNK = 512
"""The chunk that published perplexities use."""
SHORTEST_CHUNK = 32


@dataclass(frozen=True)
class QualityOptions:
    """What is measured, and how much may be lost."""

    text: EvaluationText
    kind: str = GENERAL
    """what the text is a sample of"""
    max_chunks: int | None = None
    max_increase: float = 0.03
    """of the perplexity, where no use is named"""
    use: UseCase | None = None
    """whose thresholds decide"""


@dataclass(frozen=True)
class Proof:
    """A file and the unquantized model on the same chunks, and what that is worth for a use if one was named."""

    file: Quality
    baseline: Quality
    verdict: UseVerdict | None

    @property
    def increase(self) -> float:
        """Return by what share the perplexity grew: 0.01 is one per cent."""
        return self.file.perplexity.value / self.baseline.perplexity.value - 1

    def is_good(self, options: QualityOptions) -> bool:
        """Tell whether no heavier file is wanted."""
        if self.verdict is not None:
            return self.verdict.level is Level.GOOD
        return self.increase <= options.max_increase

    @property
    def is_acceptable(self) -> bool:
        """Tell whether it does where there is nothing heavier."""
        return self.verdict is not None and self.verdict.level is Level.NOTICEABLE

    @property
    def summary(self) -> str:
        """Return what was lost."""
        if self.verdict is not None:
            return self.verdict.without_basis
        return f"perplexity grew by {self.increase:.1%}"


class QualityMeter:
    """Measures files of one model; the unquantized one is made, evaluated and removed when it is first needed.

    It runs on the CPU: the budget is the quantized file's, and the unquantized one may be far larger than the GPU.
    """

    def __init__(
        self, source: ModelSource, options: QualityOptions, folder: Path, n_ctx: int, *, allow_nan: bool = False
    ) -> None:
        """Prepare to measure with chunks of at most `n_ctx` tokens; work files are made in `folder`, whose owner removes them."""
        self._source, self._options, self._n_ctx, self._allow_nan = source, options, n_ctx, allow_nan
        self._scratch = folder
        self._base = BaseModel(ModelFile("the unquantized model", self._base_file, _on_the_cpu), self._scratch)
        self._request: TextRequest | None = None

    def prepare(self, count_tokens: Callable[[str], int]) -> None:
        """Evaluate the unquantized model, once; the text is cut by the number of its tokens.

        Raises TextError if the text is too short, QualityError if its logits are not finite.
        """
        if self._request is None:
            self._request = self._cut(count_tokens(self._options.text.text))
            self._base.quality(self._request)
            self._file.unlink(missing_ok=True)

    def measure(self, runtime: LlamaRuntime) -> Proof:
        """Return what a loaded file lost."""
        assert self._request is not None
        found = quality_of(runtime, self._request, self._base)
        use = self._options.use
        verdict = judge_use(use, [measurement_of(found)]) if use is not None else None
        return Proof(found, self._base.quality(self._request), verdict)

    def _cut(self, n_tokens: int) -> TextRequest:
        use = self._options.use
        longest = min(self._n_ctx, max(CHUNK, use.least_chunk_tokens if use is not None else 0))
        chunk = min(longest, max(SHORTEST_CHUNK, n_tokens // 2))
        return TextRequest(self._options.kind, self._options.text, chunk, self._options.max_chunks)

    @property
    def _file(self) -> Path:
        return self._scratch / "baseline.gguf"

    def _base_file(self) -> Path:
        """Return the unquantized file, made anew if it was removed: where its logits are too many to be kept."""
        if not self._file.exists():
            plan = plan_conversion(self._source, load_profile(unquantized_profile(self._source)))
            write_gguf(plan, self._file, ConversionOptions(allow_nan=self._allow_nan))
        return self._file


def _on_the_cpu(n_ctx: int, together: int) -> RunSettings:
    batch = min(CHUNK, n_ctx * together)
    return RunSettings(n_ctx=n_ctx * together, n_batch=batch, n_ubatch=batch, n_parallel=together, device_pointers=())
