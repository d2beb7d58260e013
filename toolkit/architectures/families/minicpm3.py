"""MiniCPM 3: latent attention unpacked at run time, scales that llama.cpp has built in, longrope."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import block
from toolkit.architectures.parts.checks import all_of, setting, silu
from toolkit.architectures.parts.latent_attention import COMPRESSED_Q, LATENT, MLA_OUTPUT
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, DEFAULTS, GATED_MLP, NORMS
from toolkit.architectures.parts.rope import LONGROPE, longrope_factors
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32

UNPACKING = (
    block(
        "self_attn.kv_b_proj",
        "attn_kv_b",
        "num_attention_heads*qk_nope_head_dim+num_attention_heads*v_head_dim",
        "kv_lora_rank",
    ),
)


def _metadata(config: ModelConfig) -> Metadata:
    rotated = config.integer("qk_rope_head_dim")
    return {
        "vocab_size": uint32(config.integer("vocab_size")),
        "attention.q_lora_rank": uint32(config.integer("q_lora_rank")),
        "attention.kv_lora_rank": uint32(config.integer("kv_lora_rank")),
        "attention.key_length": uint32(config.integer("qk_nope_head_dim") + rotated),
        "rope.dimension_count": uint32(rotated),
    }


MINICPM3 = replace(
    LLAMA,
    name="minicpm3",
    hf_classes=("MiniCPM3ForCausalLM",),
    compared=frozenset({"MiniCPM3ForCausalLM"}),
    model_types=("minicpm3",),
    tensors=(*AROUND_THE_BLOCKS, *NORMS, *COMPRESSED_Q, *LATENT, *UNPACKING, MLA_OUTPUT, *GATED_MLP),
    class_defaults=DEFAULTS,
    metadata=_metadata,
    unwritten=frozenset({"rope", "attention.value_length"}),
    generated_tensors=lambda config: longrope_factors(config, config.integer("qk_rope_head_dim")),
    check=all_of(silu, setting("scale_emb", 12), setting("scale_depth", 1.4), setting("dim_model_base", 256)),
    rope_types=("default", *LONGROPE),
)

ARCHITECTURES = (MINICPM3,)
