"""GLM 4.5 and 4.6: DeepSeek's kind of experts, and layers at the end that predict further tokens."""

from dataclasses import replace

from toolkit.architectures.base import biases, block, in_layers, retargeted
from toolkit.architectures.experts import (
    ROUTER,
    after_leading_dense,
    correction_bias,
    deepseek_router_metadata,
    experts,
    leading_dense,
    shared_expert,
)
from toolkit.architectures.glm4 import GLM4
from toolkit.architectures.llama import AROUND_THE_BLOCKS, ATTENTION, GATED_MLP, PROJECTIONS
from toolkit.architectures.phi import rotary_metadata
from toolkit.architectures.prediction import blocks, prediction_layers, predicts
from toolkit.architectures.qwen3 import HEAD_NORMS
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32

MIXTURE = (
    *ROUTER,
    *correction_bias("mlp.gate.e_score_correction_bias"),
    *experts(),
    *shared_expert("mlp.shared_experts", "expert_ff*n_shared_experts"),
)
NEXT_TOKENS = (
    block("eh_proj", "nextn.eh_proj", "embd", "2*embd"),
    block("enorm", "nextn.enorm", "embd"),
    block("hnorm", "nextn.hnorm", "embd"),
    block("embed_tokens", "nextn.embed_tokens", "vocab", "embd"),
    block("shared_head.head", "nextn.shared_head_head", "vocab", "embd"),
    block("shared_head.norm", "nextn.shared_head_norm", "embd"),
)
SIGMOID = uint32(2)


def _metadata(config: ModelConfig) -> Metadata:
    metadata = rotary_metadata(config) | deepseek_router_metadata(config) | {"expert_gating_func": SIGMOID}
    return metadata | {"nextn_predict_layers": uint32(prediction_layers(config))}


GLM4_MOE = replace(
    GLM4,
    name="glm4moe",
    hf_classes=("Glm4MoeForCausalLM",),
    model_types=("glm4_moe",),
    tensors=AROUND_THE_BLOCKS
    + retargeted(ATTENTION, {"ffn_norm": "post_attention_norm"})
    + biases(PROJECTIONS[:3], "attention_bias")
    + tuple(replace(one, required="use_qk_norm") for one in HEAD_NORMS)
    + in_layers(GATED_MLP, leading_dense)
    + in_layers(MIXTURE, after_leading_dense)
    + in_layers(NEXT_TOKENS, predicts),
    defaults={key: value for key, value in GLM4.defaults.items() if key != "head_dim"}
    | {
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "attention_bias": False,
        "use_qk_norm": False,
        "num_local_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 1408,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.0,
    },
    metadata=_metadata,
    block_count=blocks,
)

ARCHITECTURES = (GLM4_MOE,)
