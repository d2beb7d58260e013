"""What Gemma 2 and its successors share: norms around attention and MLP, embeddings of their own for layers, shared K and V."""

from toolkit.architectures.parts.base import block, rule
from toolkit.architectures.parts.llama_block import (
    ATTN_NORM,
    GATED_MLP,
    OUTPUT_NORM,
    POST_ATTN_NORM,
    POST_FFN_NORM,
    PROJECTIONS,
    TOKEN_EMBD,
)
from toolkit.architectures.parts.row_sources import Padded
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.rows import RowSource

SANDWICH_NORMS = (
    POST_ATTN_NORM,
    block("pre_feedforward_layernorm", "ffn_norm", "embd"),
    POST_FFN_NORM,
)
GEMMA_BLOCK = (TOKEN_EMBD, OUTPUT_NORM, ATTN_NORM, *PROJECTIONS, *SANDWICH_NORMS, *GATED_MLP)

_PER_LAYER = "num_hidden_layers*hidden_size_per_layer_input"


def as_many_rows_as_tokens(source: RowSource, config: ModelConfig) -> RowSource:
    """Fill up the rows of the tokens that have no embedding of their own in the layers: images and sound."""
    rows = config.integer("vocab_size")
    return Padded(source, (rows, source.shape[1])) if rows > source.shape[0] else source


PER_LAYER_EMBEDDING = (
    rule(
        "model.embed_tokens_per_layer",
        "per_layer_token_embd",
        "vocab_size_per_layer_input",
        _PER_LAYER,
        transform=as_many_rows_as_tokens,
    ),
    rule("model.per_layer_model_projection", "per_layer_model_proj", _PER_LAYER, "embd"),
    rule("model.per_layer_projection_norm", "per_layer_proj_norm", "hidden_size_per_layer_input"),
)
PER_LAYER_INPUT = (
    block("per_layer_input_gate", "inp_gate", "hidden_size_per_layer_input", "embd"),
    block("per_layer_projection", "proj", "embd", "hidden_size_per_layer_input"),
    block("post_per_layer_input_norm", "post_norm", "embd"),
)


def has_keys(config: ModelConfig, layer: int) -> bool:
    """Tell whether a layer has keys and values of its own; the last ones use those of a layer before."""
    return layer < config.integer("num_hidden_layers") - config.integer("num_kv_shared_layers", least=0)
