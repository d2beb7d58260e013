"""dots.llm1: Qwen 3's attention with DeepSeek's kind of experts."""

from dataclasses import replace

from toolkit.architectures.families.qwen2 import QWEN2
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.experts import CORRECTED_MIXTURE, deepseek_router_metadata, dense_first
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, ATTENTION_BIAS, DEFAULTS, HEAD_NORMS

DOTS1 = replace(
    QWEN2,
    name="dots1",
    hf_classes=("Dots1ForCausalLM",),
    compared=frozenset({"Dots1ForCausalLM"}),
    model_types=("dots1",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + ATTENTION_BIAS + HEAD_NORMS + dense_first(CORRECTED_MIXTURE),
    class_defaults=DEFAULTS
    | {
        "moe_intermediate_size": 1408,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 0,
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
    },
    metadata=deepseek_router_metadata,
    check=silu,
)

ARCHITECTURES = (DOTS1,)
