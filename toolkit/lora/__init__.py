"""LoRA adapters of PEFT and MLX to GGUF, as llama.cpp adds them to a model when it is loaded."""

from toolkit.lora.adapter import Adapter, listed, read_adapter
from toolkit.lora.adapter_plan import plan_adapter

__all__ = ["Adapter", "listed", "plan_adapter", "read_adapter"]
