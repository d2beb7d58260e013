"""Qwen 3: Qwen 2 with norms on the heads of Q and K instead of biases, and heads of their own length."""

from dataclasses import replace

from toolkit.architectures.families.qwen2 import QWEN2
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, ATTENTION_BIAS, GATED_MLP, HEAD_NORMS

DEFAULTS = QWEN2.class_defaults | {"attention_bias": False}

QWEN3 = replace(
    QWEN2,
    name="qwen3",
    hf_classes=("Qwen3ForCausalLM", "Qwen3Model"),
    compared=frozenset({"Qwen3ForCausalLM"}),
    model_types=("qwen3",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + ATTENTION_BIAS + HEAD_NORMS + GATED_MLP,
    class_defaults=DEFAULTS | {"head_dim": 128},
)

STEP3_VL = replace(
    QWEN3,
    hf_classes=("StepVLForConditionalGeneration",),
    compared=frozenset({"StepVLForConditionalGeneration"}),
    model_types=("step3_vl",),
    pools=False,
)
"""The text model of Step3-VL."""

ARCHITECTURES = (QWEN3, STEP3_VL)
