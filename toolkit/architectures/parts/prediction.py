"""Layers after the hidden ones that predict further tokens (multi-token prediction)."""

from dataclasses import replace

from toolkit.architectures.parts.base import block
from toolkit.checkpoint.model_config import ModelConfig

STORED = "stored_prediction_layers"
"""the key under which a checkpoint's own number of them stands, which wins over what its config promises"""
ASIDE = "mtp.aside."
DROPPED = {r"mtp\.aside\..*": "layers that predict further tokens, which llama.cpp does not run for this architecture"}

NEXT_TOKENS = (
    block("eh_proj", "nextn.eh_proj", "embd", "2*embd"),
    block("enorm", "nextn.enorm", "embd"),
    block("hnorm", "nextn.hnorm", "embd"),
    block("embed_tokens", "nextn.embed_tokens", "vocab", "embd"),
    block("shared_head.head", "nextn.shared_head_head", "vocab", "embd"),
    block("shared_head.norm", "nextn.shared_head_norm", "embd"),
)
"""the rules of such a layer beside those of an ordinary block"""
SHARING_NEXT_TOKENS = tuple(
    replace(one, required="embed_tokens" not in one.source and "head.head" not in one.source) for one in NEXT_TOKENS
)
"""the same where the embedding and mostly the output are those of the model"""


def prediction_layers(config: ModelConfig) -> int:
    """Return the number of layers that predict further tokens: those stored, else those that the config promises."""
    promised = config.integer("mtp_num_hidden_layers", 0, least=0)
    return config.integer(STORED, config.integer("num_nextn_predict_layers", promised, least=0), least=0)


def blocks(config: ModelConfig) -> int:
    """Return the hidden layers and those that predict further tokens."""
    return config.integer("num_hidden_layers") + prediction_layers(config)


def predicts(config: ModelConfig, layer: int) -> bool:
    """Tell whether a layer predicts further tokens."""
    return layer >= config.integer("num_hidden_layers")


def aside(name: str, config: ModelConfig) -> str:
    """Return a name that `DROPPED` drops for the tensors of the promised layers after the hidden ones."""
    start = "model.layers."
    layer = name.removeprefix(start).partition(".")[0]
    if not name.startswith(start) or not layer.isdecimal() or not config.get("num_nextn_predict_layers"):
        return name
    return ASIDE + name if predicts(config, int(layer)) else name
