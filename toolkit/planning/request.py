"""What is asked of a plan: what has to fit where, and whom to ask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from toolkit.errors import InputError
from toolkit.gguf.ggml_types import tensor_type
from toolkit.llama.footprint import Footprint
from toolkit.llama.load_settings import F16_KV, KvTypes, LoadSettings
from toolkit.memory.skeleton import Skeleton
from toolkit.planning.budgets import Budgets
from toolkit.planning.ranking import Prefer
from toolkit.planning.token_speed import Bandwidths

MAX_CONTEXT = 16 << 20
"""More than any model was trained for: the longest so far is 10 million."""


class MemorySource(Protocol):
    """Whoever knows what a model would take: a `CachedProbe`, or a fake."""

    def ask(self, skeleton: Skeleton, settings: LoadSettings) -> Footprint:
        """Return the footprint of a model."""
        ...


@dataclass(frozen=True)
class PlanningRequest:
    """What has to fit where; `settings` holds all that does not differ between choices."""

    budgets: Budgets
    settings: LoadSettings
    bandwidths: Bandwidths
    kv_types: tuple[KvTypes, ...] = (F16_KV, KvTypes("q8_0", "q8_0"))
    prefer: Prefer = Prefer.BALANCE
    explicit: bool = False
    """whether profiles were named: then each is planned, instead of the best few"""
    overhead_bytes: int | None = None
    """what a process takes of a GPU beyond its buffers, None where nobody measured it"""

    @property
    def on_cpu(self) -> bool:
        """Tell whether the CPU has to do it alone."""
        return not any(self.budgets.vram_bytes)


def check_settings(settings: LoadSettings, kv_types: Sequence[KvTypes]) -> None:
    """Refuse what llama.cpp would refuse.

    Raises InputError.
    """
    for types in kv_types:
        if tensor_type(types.v).quantized and settings.flash_attention == "off":
            raise InputError(
                f"a {types.v} V cache needs flash attention, which is off; use --flash-attention auto, or --kv f16 for V"
            )
    check_context(settings.n_ctx)
    if settings.n_ctx < settings.n_parallel:
        raise InputError(
            f"a context of {settings.n_ctx} leaves no token for each of {settings.n_parallel} sequences; give a longer --ctx, "
            "or fewer with --parallel"
        )


def check_context(n_ctx: int) -> None:
    """Refuse a context that is a slip of the pen: llama.cpp would keep books on every token of it.

    Raises InputError.
    """
    if n_ctx > MAX_CONTEXT:
        raise InputError(
            f"a context of {n_ctx:,} tokens is more than any model has; at most {MAX_CONTEXT:,} are planned"
        )
