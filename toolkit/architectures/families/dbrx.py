"""DBRX: fused QKV with clamping, experts stored as one matrix each for gate, up and (transposed) down."""

from functools import partial

from toolkit.architectures.parts.base import Architecture, Naming, bare_block, block, rule
from toolkit.architectures.parts.llama_block import OUTPUT
from toolkit.architectures.parts.row_sources import Reshaped
from toolkit.architectures.parts.transforms import compose, transpose
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32
from toolkit.gguf.rows import RowSource

_b, _bare = partial(block, within="blocks"), partial(bare_block, within="blocks")


def of_experts(source: RowSource, config: ModelConfig) -> RowSource:
    """Return [experts, width, hidden size] for experts that lie under each other."""
    experts = config.integer("num_local_experts")
    return Reshaped(source, (experts, source.shape[0] // experts, source.shape[1]))


TENSORS = (
    rule("model.wte", "token_embd", "vocab", "embd"),
    rule("model.norm_f", "output_norm", "embd"),
    OUTPUT,
    _b("norm_attn_norm.norm_1", "attn_norm", "embd"),
    _b("norm_attn_norm.attn.Wqkv", "attn_qkv", "q+2*kv", "embd"),
    _b("norm_attn_norm.attn.out_proj", "attn_output", "embd", "q"),
    _b("norm_attn_norm.norm_2", "attn_output_norm", "embd"),
    _b("ffn.router.layer", "ffn_gate_inp", "experts", "embd"),
    _bare("ffn.experts.mlp.w1", "ffn_gate_exps.weight", "experts*ff", "embd", transform=of_experts),
    _bare("ffn.experts.mlp.v1", "ffn_up_exps.weight", "experts*ff", "embd", transform=of_experts),
    _bare("ffn.experts.mlp.w2", "ffn_down_exps.weight", "experts*ff", "embd", transform=compose(of_experts, transpose)),
)


def _metadata(config: ModelConfig) -> Metadata:
    return {"attention.clamp_kqv": float32(config.number("clip_qkv"))}


DBRX = Architecture(
    name="dbrx",
    hf_classes=("DbrxForCausalLM",),
    compared=frozenset({"DbrxForCausalLM"}),
    model_types=("dbrx",),
    tensors=TENSORS,
    class_defaults={
        "max_position_embeddings": 2048,
        "layer_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    },
    aliases={
        "intermediate_size": "ffn_config.ffn_hidden_size",
        "num_local_experts": "ffn_config.moe_num_experts",
        "num_experts_per_tok": "ffn_config.moe_top_k",
        "num_key_value_heads": "attn_config.kv_n_heads",
        "rope_theta": "attn_config.rope_theta",
        "clip_qkv": "attn_config.clip_qkv",
    },
    metadata=_metadata,
    norm="layer_norm_eps",
    rope_types=("default",),
    naming=Naming(embedding="wte", blocks="blocks"),
)

ARCHITECTURES = (DBRX,)
