"""A comparison whose numbers were made up, so that every case of ranking and of the report is there without a model."""

from collections.abc import Sequence
from dataclasses import replace

from toolkit.comparison.rows import (
    Comparison,
    DeviceMemory,
    DivergenceFigures,
    Machine,
    Method,
    PlannedMemory,
    Quality,
    Row,
    TextKey,
)
from toolkit.measures.divergence_statistics import ChunkScores, Estimate
from toolkit.measures.paired import Interval
from toolkit.measures.token_rate import TokenRate
from toolkit.measures.verdict_rules import read_verdict_rules

GIB = 1 << 30
KEY = TextKey("4a862675969b2eca" * 4, 512, 40, "a vocabulary")
LADDER = (
    ("Q8_0", 7.95, 8.5, 0.0014, 0.977),
    ("Q6_K", 6.14, 6.56, 0.0055, 0.960),
    ("Q5_K_M", 5.33, 5.7, 0.0108, 0.945),
    ("Q4_K_M", 4.58, 4.89, 0.0313, 0.919),
    ("Q4_0", 4.34, 4.64, 0.0720, 0.880),
    ("Q3_K_M", 3.74, 4.0, 0.1019, 0.857),
    ("Q2_K", 2.96, 3.16, 0.4451, 0.711),
)


def divergence(mean: float, same_top: float = 0.95, error: float = 0.01, chunks: int = 40) -> DivergenceFigures:
    """Return figures whose chunks lie around the mean, some above and some below."""
    swing = [1 + 0.05 * (-1) ** number for number in range(chunks)]
    return DivergenceFigures(
        mean=Estimate(mean, error * mean),
        median=mean / 2,
        p99=6 * mean,
        p999=Interval(15 * mean, 14 * mean, 16 * mean),
        maximum=40 * mean,
        same_top=Estimate(same_top, 0.002),
        log_ratio=Estimate(0.5 * mean, 0.05 * mean),
        perplexity_ratio=1 + 0.5 * mean,
        rounding=1e-4,
        per_chunk=tuple(ChunkScores(0.5 * mean, mean * factor, same_top) for factor in swing),
    )


def quality(figures: DivergenceFigures | None, kind: str = "general", key: TextKey = KEY) -> Quality:
    """Return what was measured on one text."""
    perplexity = 6.23 * (figures.perplexity_ratio if figures is not None else 1)
    return Quality(kind, f"{kind} text", key, 10_200, Estimate(perplexity, 0.04), figures)


def memory(n_bytes: int, layers: int = 33, *, vram: int = 8 * GIB) -> PlannedMemory:
    """Return a plan for one GPU, of which too much lies in RAM."""
    gpu = DeviceMemory("CUDA0", False, n_bytes, GIB // 2, GIB // 4, vram)
    host = DeviceMemory("CPU", True, 300 << 20, 0, 20 << 20, 32 * GIB)
    missing = max(0, gpu.total_bytes - vram)
    return PlannedMemory((gpu, host), layers, 33, not missing, not missing and layers == 33, missing, "CUDA0 (a GPU)")


def row(name: str, gib: float, bits: float, mean: float, same_top: float = 0.95) -> Row:
    """Return a row that was measured."""
    n_bytes = round(gib * GIB)
    rates = TokenRate(2000 / gib, 12.0, 200 / gib, 0.4)
    return Row(name, "f16", False, n_bytes, bits, memory(n_bytes), (quality(divergence(mean, same_top)),), rates)


def base_row() -> Row:
    """Return the row of the unquantized model, which does not fit."""
    n_bytes = round(14.97 * GIB)
    return Row("BF16", "f16", True, n_bytes, 16.0, memory(n_bytes), (quality(None),))


def ladder() -> list[Row]:
    """Return the base and seven profiles, Q4_0 of which no one needs: Q4_K_M is hardly larger."""
    return [base_row(), *(row(*entry) for entry in LADDER)]


def comparison(rows: Sequence[Row] | None = None, **changes: object) -> Comparison:
    """Return a comparison of rows, by default of the whole ladder."""
    made = Comparison(
        model="Llama-3-8B",
        rows=tuple(ladder() if rows is None else rows),
        method=Method(4096, 512, 128, 3, 8, "CUDA0", 512 << 20),
        machine=Machine(
            "Linux 6.1 x86_64", "A processor, 8 cores", ("A GPU",), 32 * GIB, {"llama-cpp-python": "0.3.36"}
        ),
        rules=read_verdict_rules(),
        command="gguf-toolkit compare model --profiles ...",
    )
    return replace(made, **changes)  # type: ignore[arg-type]
