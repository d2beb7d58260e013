"""RoBERTa and XLM-RoBERTa: BERT whose first positions are padding, with byte-level BPE or a unigram vocabulary."""

from dataclasses import replace

from toolkit.architectures.families.bert import BERT, encoder_metadata
from toolkit.architectures.parts.base import biases, rule, transformed
from toolkit.architectures.parts.classifiers import with_classes
from toolkit.architectures.parts.transforms import row_range
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.format import Metadata, uint32
from toolkit.gguf.rows import RowSource


def _offset(config: ModelConfig) -> int:
    """Return the number of positions before the first of a text: transformers counts from the padding's id on."""
    padding, positions = config.integer("pad_token_id", -1, least=-1), config.integer("max_position_embeddings")
    if padding >= positions - 1:
        raise ConfigError(f"config.json: pad_token_id is {padding}, but positions are numbered from there on")
    return 1 + padding


def _used_positions(source: RowSource, config: ModelConfig) -> RowSource:
    return row_range(source, _offset(config), source.shape[0])


def _metadata(config: ModelConfig) -> Metadata:
    context = config.integer("max_position_embeddings") - _offset(config)
    return encoder_metadata(config) | {"context_length": uint32(context)}


CLASSES = (
    rule("classifier.dense", "cls", "embd", "embd"),
    rule("classifier.out_proj", "cls.output", "classes", "embd"),
)
CLASSIFIER = CLASSES + biases(CLASSES)

ROBERTA = replace(
    BERT,
    hf_classes=("RobertaModel", "RobertaForMaskedLM"),
    compared=frozenset({"RobertaModel"}),
    model_types=("roberta",),
    tensors=transformed(BERT.tensors, _used_positions, "position_embeddings"),
    class_defaults={**BERT.class_defaults, "pad_token_id": 1},
    metadata=_metadata,
    vocabularies=("bpe",),
)
XLM_ROBERTA = replace(
    ROBERTA,
    hf_classes=("XLMRobertaModel", "XLMRobertaForMaskedLM"),
    compared=frozenset({"XLMRobertaModel"}),
    model_types=("xlm-roberta",),
    vocabularies=("xlm_roberta",),
)

ARCHITECTURES = (
    ROBERTA,
    with_classes(ROBERTA, "RobertaForSequenceClassification", CLASSIFIER),
    XLM_ROBERTA,
    with_classes(XLM_ROBERTA, "XLMRobertaForSequenceClassification", CLASSIFIER, compared=True),
)
