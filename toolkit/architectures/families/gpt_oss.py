"""gpt-oss: experts in MXFP4, kept as they are, with biases; attention sinks; a window on every second layer."""

from toolkit.architectures.parts.base import Architecture, bare_block, biases, block, retargeted
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, COMPUTED_BUFFERS, DEFAULTS, NORMS, PROJECTIONS
from toolkit.architectures.parts.transforms import compose, every_other_column, every_other_row, transpose
from toolkit.architectures.parts.windows import window_every
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32

_EXPERTS = "mlp.experts."
_PARTS = ((0, "ffn_gate_exps"), (1, "ffn_up_exps"))
BLOCKS = (
    *(
        bare_block(
            f"{_EXPERTS}gate_up_proj_blocks",
            f"{target}.weight",
            "experts",
            "2*ff",
            "embd",
            transform=every_other_row(first),
        )
        for first, target in _PARTS
    ),
    bare_block(f"{_EXPERTS}down_proj_blocks", "ffn_down_exps.weight", "experts", "embd", "ff"),
)
PLAIN = (
    *(
        bare_block(
            f"{_EXPERTS}gate_up_proj",
            f"{target}.weight",
            "experts",
            "embd",
            "2*ff",
            transform=compose(transpose, every_other_row(first)),
        )
        for first, target in _PARTS
    ),
    bare_block(f"{_EXPERTS}down_proj", "ffn_down_exps.weight", "experts", "ff", "embd", transform=transpose),
)
EXPERT_BIASES = (
    *(
        bare_block(
            f"{_EXPERTS}gate_up_proj_bias", f"{target}.bias", "experts", "2*ff", transform=every_other_column(first)
        )
        for first, target in _PARTS
    ),
    bare_block(f"{_EXPERTS}down_proj_bias", "ffn_down_exps.bias", "experts", "embd"),
)
ROUTER = (block("mlp.router", "ffn_gate_inp", "experts", "embd"),)
SINKS = (bare_block("self_attn.sinks", "attn_sinks.weight", "num_attention_heads"),)


def _metadata(config: ModelConfig) -> Metadata:
    return window_every(config, 2) | {
        "expert_feed_forward_length": uint32(config.integer("intermediate_size")),
    }


GPT_OSS = Architecture(
    name="gpt-oss",
    hf_classes=("GptOssForCausalLM",),
    compared=frozenset({"GptOssForCausalLM"}),
    model_types=("gpt_oss",),
    tensors=AROUND_THE_BLOCKS
    + retargeted(NORMS, {"ffn_norm": "post_attention_norm"})
    + PROJECTIONS
    + biases(PROJECTIONS, "attention_bias")
    + SINKS
    + ROUTER
    + biases(ROUTER)
    + BLOCKS
    + PLAIN
    + EXPERT_BIASES,
    class_defaults=DEFAULTS
    | {
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 150000.0,
        "attention_bias": True,
        "sliding_window": 128,
        "num_local_experts": 128,
        "num_experts_per_tok": 4,
    },
    metadata=_metadata,
    check=silu,
    rope_types=("default", "yarn"),
    dropped=COMPUTED_BUFFERS,
)

ARCHITECTURES = (GPT_OSS,)
