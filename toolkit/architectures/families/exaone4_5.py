"""EXAONE 4.5, its text model: EXAONE 4, with layers that predict further tokens."""

from dataclasses import replace

from toolkit.architectures.families.exaone4 import EXAONE4, exaone_metadata
from toolkit.architectures.parts.base import Naming, in_layers
from toolkit.architectures.parts.checks import all_of, setting, silu
from toolkit.architectures.parts.linear_attention import head_as_block
from toolkit.architectures.parts.prediction import SHARING_NEXT_TOKENS, blocks, prediction_layers, predicts
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32


def _metadata(config: ModelConfig) -> Metadata:
    count = prediction_layers(config)
    return exaone_metadata(config) | ({"nextn_predict_layers": uint32(count)} if count else {})


EXAONE4_5 = replace(
    EXAONE4,
    hf_classes=("Exaone4_5_ForConditionalGeneration",),
    compared=frozenset({"Exaone4_5_ForConditionalGeneration"}),
    model_types=("exaone4_5", "exaone4_5_text"),
    tensors=EXAONE4.tensors + in_layers(SHARING_NEXT_TOKENS, predicts),
    metadata=_metadata,
    check=all_of(silu, setting("mtp_share_layers", False)),
    block_count=blocks,
    naming=Naming(multi_token_prediction=True),
    renamed=head_as_block,
)

ARCHITECTURES = (EXAONE4_5,)
