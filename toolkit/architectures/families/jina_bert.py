"""Jina's embeddings v2: BERT with ALiBi instead of positions, and an MLP whose gate and input are one matrix."""

from dataclasses import replace
from functools import partial

from toolkit.architectures.families.bert import BERT, EMBEDDING_NORM, EMBEDDINGS
from toolkit.architectures.families.bert import BLOCK as BERT_BLOCK
from toolkit.architectures.parts.base import Rules, biases, block, without
from toolkit.architectures.parts.checks import activation, all_of, setting

_layer = partial(block, within="encoder.layer")
ATTENTION: Rules = tuple(tensor for tensor in BERT_BLOCK if ".attention." in tensor.source)
GATED = (_layer("mlp.gated_layers", "ffn_up", "2*ff", "embd"),)
MLP = (
    _layer("mlp.wo", "ffn_down", "embd", "ff"),
    _layer("mlp.layernorm", "layer_output_norm", "embd"),
)

JINA_BERT = replace(
    BERT,
    name="jina-bert-v2",
    hf_classes=("JinaBertModel", "JinaBertForMaskedLM"),
    compared=frozenset({"JinaBertForMaskedLM"}),
    model_types=(),
    tensors=without(EMBEDDINGS, "position")
    + EMBEDDING_NORM
    + biases(EMBEDDING_NORM)
    + ATTENTION
    + biases(ATTENTION)
    + GATED
    + MLP
    + biases(MLP),
    class_defaults={**BERT.class_defaults, "position_embedding_type": "alibi"},
    check=all_of(
        activation("gelu"), setting("position_embedding_type", "alibi"), setting("feed_forward_type", "geglu")
    ),
)

ARCHITECTURES = (JINA_BERT,)
