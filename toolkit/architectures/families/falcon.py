"""Falcon 7B, 11B and 40B: attention and MLP side by side, QKV fused by groups of heads that share K and V."""

from functools import partial

from toolkit.architectures.parts.base import Architecture, Naming, biases, block, in_layers, other_than, rule
from toolkit.architectures.parts.checks import all_of, setting
from toolkit.architectures.parts.dimensions import head_dim
from toolkit.architectures.parts.llama_block import COMPUTED_BUFFERS, OUTPUT
from toolkit.architectures.parts.transforms import regrouped, ungrouped
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, string, uint32
from toolkit.gguf.rows import RowSource

CONTEXT_LENGTH = 2048
"""which llama.cpp's converter writes whatever the config says"""
_h = partial(block, within="h")


def groups_apart(source: RowSource, config: ModelConfig) -> RowSource:
    """Order rows that hold the queries of a group, its key and its value: all of Q, then K, then V."""
    groups, head = config.integer("num_key_value_heads"), head_dim(config)
    queries = config.integer("num_attention_heads") // groups * head
    return regrouped(source, ungrouped(groups, (queries, head, head)))


def _groups(config: ModelConfig) -> int:
    old_multi_query = config.flag("multi_query", True) and not config.flag("new_decoder_architecture", False)
    return 1 if old_multi_query else config.integer("num_attention_heads")


def _metadata(_config: ModelConfig) -> Metadata:
    return {"context_length": uint32(CONTEXT_LENGTH), "tensor_data_layout": string("jploski")}


OUTPUT_NORM = rule("model.ln_f", "output_norm", "embd")
NEW_NORMS = (_h("ln_mlp", "attn_norm", "embd"), _h("ln_attn", "attn_norm_2", "embd"))
OLD_NORMS = (_h("input_layernorm", "attn_norm", "embd"),)
MATRICES = (
    _h("self_attention.query_key_value", "attn_qkv", "q+2*kv", "embd", transform=groups_apart),
    _h("self_attention.dense", "attn_output", "embd", "q"),
    _h("mlp.dense_h_to_4h", "ffn_up", "ff", "embd"),
    _h("mlp.dense_4h_to_h", "ffn_down", "embd", "ff"),
)


def _two_norms(config: ModelConfig, _layer: int) -> bool:
    default = 2 if config.flag("new_decoder_architecture", False) else 1
    return config.integer("num_ln_in_parallel_attn", default) == 2


NORMS = (
    *in_layers(NEW_NORMS + biases(NEW_NORMS), _two_norms),
    *in_layers(OLD_NORMS + biases(OLD_NORMS), other_than(_two_norms)),
)

FALCON = Architecture(
    name="falcon",
    hf_classes=("FalconForCausalLM", "RWForCausalLM"),
    compared=frozenset({"FalconForCausalLM"}),
    model_types=("falcon", "RefinedWeb", "RefinedWebModel"),
    tensors=(
        rule("model.word_embeddings", "token_embd", "vocab", "embd"),
        OUTPUT,
        OUTPUT_NORM,
        *biases((OUTPUT_NORM,)),
        *NORMS,
        *MATRICES,
    ),
    class_defaults={
        "num_attention_heads": 71,
        "max_position_embeddings": 2048,
        "layer_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    },
    aliases={"intermediate_size": "ffn_hidden_size"},
    derived={
        "intermediate_size": lambda config: 4 * config.integer("hidden_size"),
        "num_key_value_heads": _groups,
    },
    metadata=_metadata,
    unwritten=frozenset({"rope", "attention.key_length", "attention.value_length"}),
    norm="layer_norm_eps",
    check=all_of(setting("alibi", False), setting("parallel_attn", True)),
    rope_types=("default",),
    naming=Naming(embedding="word_embeddings", blocks="h"),
    dropped=COMPUTED_BUFFERS,
)

ARCHITECTURES = (FALCON,)
