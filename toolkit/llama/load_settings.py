"""How a model and its context are loaded, as far as memory depends on it."""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from toolkit.errors import InputError
from toolkit.gguf.ggml_types import tensor_type

AskedDevice = Literal["auto", "gpu", "simulated", "cpu"]
FlashAttention = Literal["auto", "on", "off"]
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "iq4_nl", "q4_1", "q4_0")
"""what a KV cache can be stored as"""


@dataclass(frozen=True)
class TensorOverride:
    """A buffer type for all tensors whose name a regular expression is found in (llama-server's `-ot`)."""

    pattern: str
    buffer_type: str = "CPU"


@dataclass(frozen=True)
class KvTypes:
    """The types of the KV cache: of its keys and of its values."""

    k: str = "f16"
    v: str = "f16"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the types that are written as TYPE for keys and values, or as KEYS/VALUES, in small letters.

        Raises InputError if one is not a type that a cache can have.
        """
        keys, slash, values = text.lower().partition("/")
        types = cls(keys, values if slash else keys)
        for name in (types.k, types.v):
            if name not in KV_TYPES:
                raise InputError(
                    f"KV type {name!r} is not one of {', '.join(KV_TYPES)}; two are written as KEYS/VALUES"
                )
        return types

    def __str__(self) -> str:
        """Return how they are written: once where keys and values have one type."""
        return self.k if self.k == self.v else f"{self.k}/{self.v}"

    @property
    def quantized(self) -> bool:
        """Tell whether keys or values are quantized."""
        return tensor_type(self.k).quantized or tensor_type(self.v).quantized


F16_KV = KvTypes()


@dataclass(frozen=True, kw_only=True)
class LoadSettings:
    """What the memory depends on; `device` says whom to ask: `auto` is a GPU if there is one, else a simulated device."""

    n_ctx: int = 512
    """tokens of all sequences together"""
    n_gpu_layers: int = 0
    n_batch: int = 512
    n_ubatch: int = 512
    kv_types: KvTypes = F16_KV
    flash_attention: FlashAttention = "auto"
    device: AskedDevice = "auto"
    n_parallel: int = 1
    """sequences"""
    n_outputs: int = 1
    """tokens of a batch whose logits are wanted, at most; one of every sequence counts anyway"""
    kv_unified: bool = False
    """one cache for all sequences, instead of an equal part for each"""
    swa_full: bool = False
    """keep every token in the layers that see only a window; llama.cpp's library does by default, llama-server does not"""
    tensor_overrides: tuple[TensorOverride, ...] = ()
    tensor_split: tuple[float, ...] = ()
    """layers of each device; none leaves it to llama.cpp"""
    n_devices: int = 1
    """GPUs, or simulated devices; more than there are is an error"""
    rpc: tuple[str, ...] = ()
    """endpoints HOST:PORT of llama.cpp's RPC servers, whose devices follow the GPUs"""

    @property
    def of_model(self) -> tuple[Any, ...]:
        """Return the settings that loading a model depends on; the others are its context's."""
        return (
            self.n_gpu_layers,
            self.device,
            self.tensor_overrides,
            self.tensor_split,
            self.n_devices,
            self.rpc,
        )

    def undivided(self) -> Self:
        """Return the settings without a split, as a plan begins with them."""
        return replace(self, n_gpu_layers=0, tensor_overrides=(), tensor_split=())

    def on_cpu(self) -> Self:
        """Return the settings with everything on the CPU of this machine."""
        return replace(self.undivided(), device="cpu", rpc=())

    def context_on_cpu(self) -> "LoadSettings":
        """Return the settings of the context alone, with the whole model on the CPU of this machine."""
        return LoadSettings(
            n_ctx=self.n_ctx,
            n_batch=self.n_batch,
            n_ubatch=self.n_ubatch,
            kv_types=self.kv_types,
            flash_attention=self.flash_attention,
            device="cpu",
            n_parallel=self.n_parallel,
            kv_unified=self.kv_unified,
            swa_full=self.swa_full,
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the settings that `dataclasses.asdict` and JSON made these values of."""
        overrides = tuple(TensorOverride(**override) for override in values["tensor_overrides"])
        lists = {"tensor_split": tuple(values["tensor_split"]), "rpc": tuple(values["rpc"])}
        return cls(**values | lists | {"tensor_overrides": overrides, "kv_types": KvTypes(**values["kv_types"])})
