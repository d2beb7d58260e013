"""GLM 4 (0414): norms before and after attention and MLP, gate and up fused, rope on half of each head."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import biases, block, no_generated_tensors
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, DEFAULTS, FUSED_MLP, NORMS, PROJECTIONS, QKV
from toolkit.architectures.parts.rope import rotary_metadata

SANDWICH_NORMS = (
    *NORMS,
    block("post_self_attn_layernorm", "post_attention_norm", "embd"),
    block("post_mlp_layernorm", "post_ffw_norm", "embd"),
)

GLM_DEFAULTS = DEFAULTS | {"max_position_embeddings": 131072, "partial_rotary_factor": 0.5}

GLM4 = replace(
    LLAMA,
    name="glm4",
    hf_classes=("Glm4ForCausalLM",),
    compared=frozenset({"Glm4ForCausalLM"}),
    model_types=("glm4",),
    tensors=AROUND_THE_BLOCKS + SANDWICH_NORMS + PROJECTIONS + biases(QKV, "attention_bias") + FUSED_MLP,
    class_defaults=GLM_DEFAULTS
    | {"num_key_value_heads": 2, "head_dim": 128, "rms_norm_eps": 1.5625e-07, "attention_bias": True},
    metadata=rotary_metadata,
    generated_tensors=no_generated_tensors,
    rope_types=("default", "linear", "yarn"),
)

ARCHITECTURES = (GLM4,)
