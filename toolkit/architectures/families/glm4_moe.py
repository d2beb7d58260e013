"""GLM 4.5 and 4.6: DeepSeek's kind of experts, and layers at the end that predict further tokens."""

from dataclasses import replace

from toolkit.architectures.families.glm4 import GLM4, GLM_DEFAULTS
from toolkit.architectures.parts.base import biases, in_layers, retargeted
from toolkit.architectures.parts.experts import CORRECTED_MIXTURE, SIGMOID, deepseek_router_metadata, dense_first
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, HEAD_NORMS, QKV
from toolkit.architectures.parts.prediction import NEXT_TOKENS, blocks, prediction_layers, predicts
from toolkit.architectures.parts.rope import rotary_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32


def _metadata(config: ModelConfig) -> Metadata:
    metadata = rotary_metadata(config) | deepseek_router_metadata(config) | {"expert_gating_func": SIGMOID}
    return metadata | {"nextn_predict_layers": uint32(prediction_layers(config))}


GLM4_MOE = replace(
    GLM4,
    name="glm4moe",
    hf_classes=("Glm4MoeForCausalLM",),
    compared=frozenset({"Glm4MoeForCausalLM"}),
    model_types=("glm4_moe",),
    tensors=AROUND_THE_BLOCKS
    + retargeted(ATTENTION, {"ffn_norm": "post_attention_norm"})
    + biases(QKV, "attention_bias")
    + tuple(replace(tensor, required="use_qk_norm") for tensor in HEAD_NORMS)
    + dense_first(CORRECTED_MIXTURE)
    + in_layers(NEXT_TOKENS, predicts),
    class_defaults=GLM_DEFAULTS
    | {
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
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

GLM4V_MOE = replace(
    GLM4_MOE,
    hf_classes=("Glm4vMoeForConditionalGeneration",),
    compared=frozenset({"Glm4vMoeForConditionalGeneration"}),
    model_types=("glm4v_moe", "glm4v_moe_text"),
    rope_types=(*GLM4_MOE.rope_types, "mrope"),
)
"""The text model of GLM 4.5V."""

ARCHITECTURES = (GLM4_MOE, GLM4V_MOE)
