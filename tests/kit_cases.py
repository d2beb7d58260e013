"""The kit's cases, and those of them that llama.cpp itself cannot load."""

from checkpoints import case_names

CASES = tuple(case_names())
UNLOADABLE = {
    "gemma3n": "has wrong shape",
    "deepseek_v2_lite": r"key not found in model: deepseek2\.attention\.q_lora_rank",
}
"""too small a copy for llama.cpp's fixed numbers of these: refused before and after conversion alike"""
