"""From a Hugging Face checkpoint and a VRAM budget to a GGUF file that fits, with proof of what it costs."""

__version__ = "0.1.0"
