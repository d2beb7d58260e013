"""OLMo 2: norms after attention and MLP instead of before, and over all heads of Q and of K."""

from dataclasses import replace

from toolkit.architectures.families.llama import (
    AROUND_THE_BLOCKS,
    ATTENTION_BIAS,
    DEFAULTS,
    GATED_MLP,
    LLAMA,
    PROJECTIONS,
)
from toolkit.architectures.parts.base import block, no_generated_tensors, no_metadata

POST_NORMS = (
    block("post_attention_layernorm", "post_attention_norm", "embd"),
    block("post_feedforward_layernorm", "post_ffw_norm", "embd"),
)
Q_AND_K_NORMS = (
    block("self_attn.q_norm", "attn_q_norm", "q"),
    block("self_attn.k_norm", "attn_k_norm", "kv"),
)

OLMO2 = replace(
    LLAMA,
    name="olmo2",
    hf_classes=("Olmo2ForCausalLM",),
    model_types=("olmo2",),
    tensors=AROUND_THE_BLOCKS + PROJECTIONS + ATTENTION_BIAS + Q_AND_K_NORMS + POST_NORMS + GATED_MLP,
    defaults=DEFAULTS | {"rms_norm_eps": 1e-5},
    metadata=no_metadata,
    generated_tensors=no_generated_tensors,
    rope_types=("default", "linear", "yarn"),
)

ARCHITECTURES = (OLMO2,)
