"""EXAONE 3 and 3.5: Llama's block under GPT-2's names, rope over split halves."""

from dataclasses import replace
from functools import partial

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import Naming, block, rule
from toolkit.architectures.parts.llama_block import DEFAULTS, OUTPUT
from toolkit.architectures.parts.rope import rotary_metadata

_h = partial(block, within="h")

EXAONE = replace(
    LLAMA,
    name="exaone",
    hf_classes=("ExaoneForCausalLM",),
    compared=frozenset({"ExaoneForCausalLM"}),
    model_types=("exaone",),
    tensors=(
        rule("model.wte", "token_embd", "vocab", "embd"),
        rule("model.ln_f", "output_norm", "embd"),
        OUTPUT,
        _h("ln_1", "attn_norm", "embd"),
        _h("attn.attention.q_proj", "attn_q", "q", "embd"),
        _h("attn.attention.k_proj", "attn_k", "kv", "embd"),
        _h("attn.attention.v_proj", "attn_v", "kv", "embd"),
        _h("attn.attention.out_proj", "attn_output", "embd", "q"),
        _h("ln_2", "ffn_norm", "embd"),
        _h("mlp.c_fc_0", "ffn_gate", "ff", "embd"),
        _h("mlp.c_fc_1", "ffn_up", "ff", "embd"),
        _h("mlp.c_proj", "ffn_down", "embd", "ff"),
    ),
    class_defaults=DEFAULTS | {"layer_norm_eps": 1e-5, "rms_norm_eps": 1e-5},
    metadata=rotary_metadata,
    vocabularies=("sentencepiece", "bpe"),
    naming=Naming(embedding="wte", blocks="h"),
)

ARCHITECTURES = (EXAONE,)
