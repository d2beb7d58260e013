"""ModernBERT: an encoder with rope, a fused QKV, a fused gated MLP, and windows in two of three blocks."""

from toolkit.architectures.parts.base import Architecture, Naming, biases, block, in_layers, rule
from toolkit.architectures.parts.checks import activation, all_of, setting
from toolkit.architectures.parts.classifiers import PREDICTION_HEAD, with_classes
from toolkit.architectures.parts.llama_block import COMPUTED_BUFFERS
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean, float32, string, uint32

BLOCK = (
    block("attn.Wqkv", "attn_qkv", "3*embd", "embd"),
    block("attn.Wo", "attn_output", "embd", "embd"),
    block("mlp_norm", "ffn_norm", "embd"),
    block("mlp.Wi", "ffn_up", "2*ff", "embd"),
    block("mlp.Wo", "ffn_down", "embd", "ff"),
)
ATTENTION_NORM = in_layers((block("attn_norm", "attn_norm", "embd"),), lambda _config, layer: layer > 0)
"""The first block takes the normed embedding as it is."""

POOLING_TYPES = {"mean": 1, "cls": 2}


def _metadata(config: ModelConfig) -> Metadata:
    classifier: Metadata = {}
    if config.has("classifier_pooling"):
        pooling = config.choice("classifier_pooling", POOLING_TYPES)
        classifier = {"classifier.pooling_type": uint32(POOLING_TYPES[pooling])}
    return classifier | {
        "attention.layer_norm_rms_epsilon": float32(config.number("layer_norm_eps")),
        "attention.causal": boolean(False),
        "attention.sliding_window": uint32(config.integer("local_attention")),
        "attention.sliding_window_pattern": uint32(config.integer("global_attn_every_n_layers")),
        "rope.scaling.type": string("none"),
        "vocab_size": uint32(config.integer("vocab_size")),
        "hidden_activation": string(config.text("hidden_act")),
    }


MODERN_BERT = Architecture(
    name="modern-bert",
    hf_classes=("ModernBertModel", "ModernBertForMaskedLM"),
    compared=frozenset({"ModernBertModel"}),
    model_types=("modernbert",),
    tensors=(
        rule("model.embeddings.tok_embeddings", "token_embd", "vocab", "embd"),
        rule("model.embeddings.norm", "token_embd_norm", "embd"),
        rule("model.final_norm", "output_norm", "embd"),
        *ATTENTION_NORM,
        *BLOCK,
    ),
    class_defaults={
        "intermediate_size": 1152,
        "num_attention_heads": 12,
        "max_position_embeddings": 8192,
        "layer_norm_eps": 1e-5,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
        "hidden_act": "gelu",
        "rope_theta": 160000.0,
        "rope_local_base_freq": 10000.0,
    },
    metadata=_metadata,
    unwritten=frozenset({"attention.head_count_kv"}),
    norm="layer_norm_eps",
    check=all_of(
        activation("gelu", "silu"),
        setting("attention_bias", False),
        setting("mlp_bias", False),
        setting("norm_bias", False),
        setting("classifier_pooling", *POOLING_TYPES),
    ),
    rope_types=("default",),
    vocabularies=("bpe",),
    naming=Naming(embedding="embeddings.tok_embeddings"),
    dropped=COMPUTED_BUFFERS | PREDICTION_HEAD,
    pools=True,
)

CLASSES = (rule("classifier", "cls.output", "classes", "embd"),)
MODERN_BERT_CLASSIFIER = with_classes(
    MODERN_BERT,
    "ModernBertForSequenceClassification",
    (rule("head.dense", "cls", "embd", "embd"), rule("head.norm", "cls.norm", "embd"), *CLASSES, *biases(CLASSES)),
    compared=True,
)
"""Rerankers such as gte-reranker-modernbert."""

ARCHITECTURES = (MODERN_BERT, MODERN_BERT_CLASSIFIER)
