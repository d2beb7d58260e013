"""StarCoder 1 (GPTBigCode): GPT-2 with linear layers and one head of K and V."""

from dataclasses import replace
from functools import partial

from toolkit.architectures.families.gpt2 import EMBEDDINGS, GPT2, NORMS
from toolkit.architectures.parts.base import biases, block
from toolkit.architectures.parts.checks import all_of, gelu, setting
from toolkit.architectures.parts.llama_block import OUTPUT

_h = partial(block, within="h")
LINEAR = (
    _h("attn.c_attn", "attn_qkv", "q+2*head", "embd"),
    _h("attn.c_proj", "attn_output", "embd", "q"),
    _h("mlp.c_fc", "ffn_up", "ff", "embd"),
    _h("mlp.c_proj", "ffn_down", "embd", "ff"),
)

STARCODER = replace(
    GPT2,
    name="starcoder",
    hf_classes=("GPTBigCodeForCausalLM",),
    compared=frozenset({"GPTBigCodeForCausalLM"}),
    model_types=("gpt_bigcode",),
    tensors=(*EMBEDDINGS, OUTPUT, *NORMS, *biases(NORMS), *LINEAR, *biases(LINEAR)),
    class_defaults=GPT2.class_defaults | {"hidden_act": "gelu_pytorch_tanh", "num_key_value_heads": 1},
    unwritten=frozenset({"rope"}),
    check=all_of(gelu, setting("multi_query", True)),
)

ARCHITECTURES = (STARCODER,)
