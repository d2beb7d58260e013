"""Heads that sort texts into classes, such as rerankers have."""

from dataclasses import replace

from toolkit.architectures.parts.base import Architecture, Rules
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, ValueType, array

POOLER = {r"(model\.)?pooler\..*": "the pooler, which embeddings do not pass"}
PREDICTION_HEAD = {
    r"(model\.)?(head|decoder)\..*": "the head that training used, which embeddings do not pass",
}
"""of ModernBERT; its classifiers pass it too"""


def classifier_metadata(config: ModelConfig) -> Metadata:
    """Return the names of the classes, whose number llama.cpp reads off them."""
    return {"classifier.output_labels": array(ValueType.STRING, class_labels(config))}


def class_labels(config: ModelConfig) -> list[str]:
    """Return the names of the classes in the order of their rows; transformers calls them LABEL_0 and so on."""
    named = config.get("id2label")
    if isinstance(named, dict) and named:
        # llama.cpp's converter sorts the numbers, which JSON holds as texts, as numbers.
        return [str(named[key]) for key in sorted(named, key=lambda key: int(key) if key.isdecimal() else 0)]
    return [f"LABEL_{index}" for index in range(config.integer("num_labels"))]


def with_classes(architecture: Architecture, hf_class: str, head: Rules, *, compared: bool = False) -> Architecture:
    """Return the architecture under a head that sorts texts into classes, such as rerankers have."""
    part_of_head = POOLER.keys() | PREDICTION_HEAD.keys()
    dropped = {pattern: why for pattern, why in architecture.dropped.items() if pattern not in part_of_head}
    return replace(
        architecture,
        hf_classes=(hf_class,),
        compared=frozenset({hf_class} if compared else ()),
        model_types=(),
        tensors=architecture.tensors + head,
        class_defaults={**architecture.class_defaults, "num_labels": 2},
        derived={**architecture.derived, "classes": lambda config: len(class_labels(config))},
        metadata=lambda config: architecture.metadata(config) | classifier_metadata(config),
        dropped=dropped,
    )
