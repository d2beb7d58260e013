"""K-EXAONE: EXAONE's attention behind Llama's norms, with DeepSeek's kind of experts."""

from dataclasses import replace

from toolkit.architectures.families.exaone4 import EXAONE4, exaone_metadata
from toolkit.architectures.parts.experts import MIXTURE, correction_bias, deepseek_router_metadata, dense_first
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, HEAD_NORMS
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, string, uint32

CORRECTED_MIXTURE = MIXTURE + correction_bias("mlp.e_score_correction_bias")


def _metadata(config: ModelConfig) -> Metadata:
    shared = config.integer("moe_intermediate_size") * config.integer("n_shared_experts")
    return (
        exaone_metadata(config)
        | deepseek_router_metadata(config)
        | {
            "expert_shared_feed_forward_length": uint32(shared),
            "nextn_predict_layers": uint32(0),
            "rope.scaling.type": string("none"),
        }
    )


EXAONE_MOE = replace(
    EXAONE4,
    name="exaone-moe",
    hf_classes=("ExaoneMoEForCausalLM", "ExaoneMoeForCausalLM"),
    compared=frozenset({"ExaoneMoEForCausalLM"}),
    model_types=("exaone_moe",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + HEAD_NORMS + dense_first(CORRECTED_MIXTURE),
    metadata=_metadata,
    rope_types=("default",),
)

ARCHITECTURES = (EXAONE_MOE,)
