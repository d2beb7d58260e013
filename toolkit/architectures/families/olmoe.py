"""OLMoE: Llama's norms, OLMo 2's norms of Q and K, experts in every layer."""

from dataclasses import replace

from toolkit.architectures.families.olmo2 import OLMO2
from toolkit.architectures.parts.checks import all_of, setting
from toolkit.architectures.parts.experts import ROUTER, experts
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, WIDE_NORMS

OLMOE = replace(
    OLMO2,
    name="olmoe",
    hf_classes=("OlmoeForCausalLM",),
    compared=frozenset({"OlmoeForCausalLM"}),
    model_types=("olmoe",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + WIDE_NORMS + ROUTER + experts(ff="ff"),
    class_defaults=OLMO2.class_defaults
    | {
        "intermediate_size": 2048,
        "max_position_embeddings": 4096,
        "num_local_experts": 64,
        "num_experts_per_tok": 8,
    },
    check=all_of(OLMO2.check, setting("clip_qkv")),
)

ARCHITECTURES = (OLMOE,)
