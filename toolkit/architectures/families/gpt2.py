"""GPT-2: learnt positions, fused QKV, matrices stored as Conv1D does, inputs first."""

from functools import partial

from toolkit.architectures.parts.base import Architecture, Naming, Rules, TensorRule, biases, block, rule
from toolkit.architectures.parts.checks import gelu
from toolkit.architectures.parts.llama_block import COMPUTED_BUFFERS, OUTPUT
from toolkit.architectures.parts.transforms import transpose

_h = partial(block, within="h")
EMBEDDINGS = (
    rule("model.wte", "token_embd", "vocab", "embd"),
    rule("model.wpe", "position_embd", "max_position_embeddings", "embd"),
)
NORMS = (
    rule("model.ln_f", "output_norm", "embd"),
    _h("ln_1", "attn_norm", "embd"),
    _h("ln_2", "ffn_norm", "embd"),
)
CONV1D = (
    _h("attn.c_attn", "attn_qkv", "embd", "3*embd", transform=transpose),
    _h("attn.c_proj", "attn_output", "embd", "embd", transform=transpose),
    _h("mlp.c_fc", "ffn_up", "embd", "ff", transform=transpose),
    _h("mlp.c_proj", "ffn_down", "ff", "embd", transform=transpose),
)


def _conv1d_biases(rules: Rules) -> Rules:
    outputs = (TensorRule(tensor.source, tensor.target, tensor.shape[::-1]) for tensor in rules)
    return biases(tuple(outputs))


GPT2 = Architecture(
    name="gpt2",
    hf_classes=("GPT2LMHeadModel",),
    compared=frozenset({"GPT2LMHeadModel"}),
    model_types=("gpt2",),
    tensors=(*EMBEDDINGS, OUTPUT, *NORMS, *biases(NORMS), *CONV1D, *_conv1d_biases(CONV1D)),
    class_defaults={
        "num_attention_heads": 12,
        "max_position_embeddings": 1024,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu_new",
        "tie_word_embeddings": True,
    },
    derived={"intermediate_size": lambda config: 4 * config.integer("hidden_size")},
    unwritten=frozenset({"rope", "attention.head_count_kv"}),
    norm="layer_norm_eps",
    check=gelu,
    naming=Naming(embedding="wte", blocks="h"),
    dropped=COMPUTED_BUFFERS | {r".*\.attn\.(masked_)?bias": "the causal mask, which llama.cpp computes itself"},
)

ARCHITECTURES = (GPT2,)
