"""DeepSeek V3, R1 and Kimi K2: V2 with sigmoid routing and a correction bias, and defaults of its own."""

from dataclasses import replace

from toolkit.architectures.families.deepseek_v2 import DEEPSEEK2

DEEPSEEK3 = replace(
    DEEPSEEK2,
    hf_classes=("DeepseekV3ForCausalLM", "KimiK2ForCausalLM"),
    compared=frozenset({"DeepseekV3ForCausalLM"}),
    model_types=("deepseek_v3", "kimi_k2"),
    class_defaults=DEEPSEEK2.class_defaults
    | {
        "max_position_embeddings": 4096,
        "first_k_dense_replace": 3,
        "topk_method": "noaux_tc",
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "num_local_experts": 256,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 2048,
        "n_shared_experts": 1,
        "n_group": 8,
        "topk_group": 4,
    },
)

ARCHITECTURES = (DEEPSEEK3,)
