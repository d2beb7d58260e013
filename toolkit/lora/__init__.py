"""LoRA adapters of PEFT to GGUF, as llama.cpp adds them to a model when it is loaded."""

from toolkit.lora.adapter import Adapter, read_adapter
from toolkit.lora.adapter_plan import plan_adapter

__all__ = ["Adapter", "plan_adapter", "read_adapter"]
