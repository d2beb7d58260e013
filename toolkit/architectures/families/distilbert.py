"""DistilBERT: BERT without token types, under names of its own."""

from dataclasses import replace
from functools import partial

from toolkit.architectures.families.bert import BERT, EMBEDDING_NORM, EMBEDDINGS
from toolkit.architectures.parts.base import Naming, biases, block, without

_layer = partial(block, within="transformer.layer")
BLOCK = (
    _layer("attention.q_lin", "attn_q", "embd", "embd"),
    _layer("attention.k_lin", "attn_k", "embd", "embd"),
    _layer("attention.v_lin", "attn_v", "embd", "embd"),
    _layer("attention.out_lin", "attn_output", "embd", "embd"),
    _layer("sa_layer_norm", "attn_output_norm", "embd"),
    _layer("ffn.lin1", "ffn_up", "ff", "embd"),
    _layer("ffn.lin2", "ffn_down", "embd", "ff"),
    _layer("output_layer_norm", "layer_output_norm", "embd"),
)

DISTILBERT = replace(
    BERT,
    hf_classes=("DistilBertModel", "DistilBertForMaskedLM"),
    compared=frozenset({"DistilBertModel"}),
    model_types=("distilbert",),
    tensors=without(EMBEDDINGS, "token_type") + EMBEDDING_NORM + biases(EMBEDDING_NORM) + BLOCK + biases(BLOCK),
    class_defaults={**BERT.class_defaults, "type_vocab_size": 1},
    aliases={"hidden_act": "activation"},
    naming=Naming(embedding="embeddings.word_embeddings", blocks="transformer.layer"),
    dropped=BERT.dropped | {r"(model\.)?vocab_.*": "the head that training used, which embeddings do not pass"},
)

ARCHITECTURES = (DISTILBERT,)
