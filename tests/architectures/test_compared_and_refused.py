"""What the list of architectures claims, held against what the tests compare."""

import json

import pytest
from architectures.variants import VARIANTS
from compare import KIT
from editable_checkpoint import edit_case

from toolkit.architectures import find_architecture, known_architectures
from toolkit.architectures.refused import REFUSED
from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.checkpoint.config_spelling import normalise
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError

COMPARED = {name for known in known_architectures() for name in known.compared.intersection(known.hf_classes)}
KNOWN = {name for known in known_architectures() for name in known.hf_classes}


def class_of_variant(name, root):
    case, change = VARIANTS[name]
    checkpoint = edit_case(case, root)
    change(checkpoint)
    config = normalise(open_checkpoint(checkpoint.save()).config)
    whole, text = config.get("wrapper_architectures", [""]), config.get("architectures", [""])
    return whole[0] if whole[0] in KNOWN else text[0]


def test_exactly_the_classes_of_the_kit_and_of_the_variants_count_as_compared(tmp_path):
    manifest = json.loads((KIT / "manifest.json").read_text(encoding="utf-8"))
    in_kit = {about["architecture"] for about in manifest.values()}
    in_variants = {class_of_variant(name, tmp_path / name) for name in VARIANTS}
    assert in_kit | in_variants == COMPARED


def test_what_is_refused_does_not_convert():
    assert KNOWN.isdisjoint(REFUSED)
    assert KNOWN >= COMPARED


@pytest.mark.parametrize(
    "name", ["ChatGLMModel", "DistilBertForSequenceClassification", "Eagle3DraftModel", "InternVisionModel"]
)
def test_a_refused_class_is_told_why(name):
    with pytest.raises(ConfigError, match=f"architecture {name} is refused: {REFUSED[name][:20]}"):
        find_architecture(ModelConfig({"architectures": [name]}))
