"""EuroBERT and Jina's embeddings v5: Llama's block as an encoder, rope over split halves."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import no_generated_tensors
from toolkit.architectures.parts.checks import all_of, setting, silu
from toolkit.architectures.parts.llama_block import ATTENTION, DEFAULTS, GATED_MLP, OUTPUT_NORM, TOKEN_EMBD
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean, string


def _metadata(_config: ModelConfig) -> Metadata:
    return {"attention.causal": boolean(False), "rope.scaling.type": string("none")}


EUROBERT = replace(
    LLAMA,
    name="eurobert",
    hf_classes=("EuroBertModel", "EuroBertForMaskedLM"),
    compared=frozenset({"EuroBertModel"}),
    model_types=("eurobert",),
    tensors=(TOKEN_EMBD, OUTPUT_NORM, *ATTENTION, *GATED_MLP),
    class_defaults=DEFAULTS | {"rms_norm_eps": 1e-5, "rope_theta": 250000.0, "max_position_embeddings": 8192},
    metadata=_metadata,
    generated_tensors=no_generated_tensors,
    check=all_of(silu, setting("attention_bias", False), setting("mlp_bias", False)),
    rope_types=("default",),
    vocabularies=("bpe",),
    dropped=LLAMA.dropped | {r"lm_head\..*": "the head that training used, which embeddings do not pass"},
    pools=True,
)

ARCHITECTURES = (EUROBERT,)
