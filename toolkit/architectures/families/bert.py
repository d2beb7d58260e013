"""BERT: an encoder with learnt positions and token types, a norm after every half of a block."""

from functools import partial

from toolkit.architectures.parts.base import Architecture, Naming, biases, block, rule
from toolkit.architectures.parts.checks import activation, all_of, setting
from toolkit.architectures.parts.classifiers import POOLER, with_classes
from toolkit.architectures.parts.llama_block import COMPUTED_BUFFERS
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean, uint32

_layer = partial(block, within="encoder.layer")
EMBEDDINGS = (
    rule("model.embeddings.word_embeddings", "token_embd", "vocab", "embd"),
    rule("model.embeddings.position_embeddings", "position_embd", "max_position_embeddings", "embd"),
    rule("model.embeddings.token_type_embeddings", "token_types", "type_vocab_size", "embd"),
)
EMBEDDING_NORM = (rule("model.embeddings.LayerNorm", "token_embd_norm", "embd"),)
BLOCK = (
    _layer("attention.self.query", "attn_q", "embd", "embd"),
    _layer("attention.self.key", "attn_k", "embd", "embd"),
    _layer("attention.self.value", "attn_v", "embd", "embd"),
    _layer("attention.output.dense", "attn_output", "embd", "embd"),
    _layer("attention.output.LayerNorm", "attn_output_norm", "embd"),
    _layer("intermediate.dense", "ffn_up", "ff", "embd"),
    _layer("output.dense", "ffn_down", "embd", "ff"),
    _layer("output.LayerNorm", "layer_output_norm", "embd"),
)
LANGUAGE_HEAD = {
    r"(model\.)?cls\.(predictions|seq_relationship)\..*": "the head that training used, which embeddings do not pass",
    r"(model\.)?lm_head\..*": "the head that training used, which embeddings do not pass",
}


def encoder_metadata(config: ModelConfig) -> Metadata:
    """Return the keys of an encoder: every token sees every other."""
    return {
        "attention.causal": boolean(False),
        "tokenizer.ggml.token_type_count": uint32(config.integer("type_vocab_size")),
    }


_OLD_NORM_NAMES = {"gamma": "weight", "beta": "bias"}


def plain_norm_name(name: str, _config: ModelConfig) -> str:
    """Return the name of a tensor from TensorFlow's days, whose norms have gamma and beta, in today's form."""
    stem, _, last = name.rpartition(".")
    return f"{stem}.{_OLD_NORM_NAMES.get(last, last)}"


BERT = Architecture(
    name="bert",
    hf_classes=("BertModel", "BertForMaskedLM"),
    compared=frozenset({"BertModel"}),
    model_types=("bert",),
    tensors=EMBEDDINGS + EMBEDDING_NORM + biases(EMBEDDING_NORM) + BLOCK + biases(BLOCK),
    class_defaults={
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute",
    },
    metadata=encoder_metadata,
    unwritten=frozenset({"rope", "attention.head_count_kv"}),
    norm="layer_norm_eps",
    check=all_of(
        activation("gelu", "gelu_new"),
        setting("position_embedding_type", "absolute"),
        setting("is_decoder", False),
    ),
    rope_types=("default",),
    vocabularies=("wordpiece",),
    naming=Naming(embedding="embeddings.word_embeddings", blocks="encoder.layer"),
    renamed=plain_norm_name,
    dropped=COMPUTED_BUFFERS | POOLER | LANGUAGE_HEAD,
    pools=True,
)

CLASSES = (rule("model.pooler.dense", "cls", "embd", "embd"), rule("classifier", "cls.output", "classes", "embd"))
BERT_CLASSIFIER = with_classes(
    BERT,
    "BertForSequenceClassification",
    CLASSES + biases(CLASSES),
)
"""Rerankers such as ms-marco-MiniLM. llama.cpp's converter leaves the pooler out, though the class passes it."""

ARCHITECTURES = (BERT, BERT_CLASSIFIER)
