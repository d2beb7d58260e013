"""Small checkpoints of families that resemble one of the kit's cases but share no checkpoint with it: all weights are made up here.

As in `variants.py`, `reference/NAME.json` is the fingerprint of what llama.cpp's own converter makes of them in f32.
"""

import shutil
from collections.abc import Mapping
from typing import Any

import numpy
from compare import KIT
from editable_checkpoint import EditableCheckpoint

Shapes = Mapping[str, tuple[int, ...]]


def made_up(seed: int, shapes: Shapes, dtype: str = "BF16") -> dict[str, tuple[str, numpy.ndarray]]:
    """Return tensors that are exact in bfloat16; norms lie around 1."""
    random = numpy.random.RandomState(seed)
    return {name: _tensor(random, name, shape, dtype) for name, shape in shapes.items()}


def _tensor(
    random: numpy.random.RandomState, name: str, shape: tuple[int, ...], dtype: str
) -> tuple[str, numpy.ndarray]:
    centre = 1.0 if "norm" in name or "ln_" in name else 0.0
    values = (centre + random.randint(-63, 64, shape) / 512).astype("<f4")
    return (dtype, values) if dtype == "F32" else (dtype, (values.view("<u4") >> 16).astype("<u2"))


def copy_tokenizer(checkpoint: EditableCheckpoint, case: str) -> None:
    """Put the tokenizer files of another case in place of the checkpoint's own."""
    for name in ("vocab.txt", "tokenizer.model", "tokenizer.json", "tokenizer_config.json"):
        (checkpoint.directory / name).unlink(missing_ok=True)
    for file in (KIT / "sources" / case).iterdir():
        if file.is_file() and file.name not in ("config.json", "weights.json"):
            shutil.copyfile(file, checkpoint.directory / file.name)


def blocks(prefix: str, n_layer: int, shapes: Shapes, skip: tuple[str, ...] = ()) -> dict[str, tuple[int, ...]]:
    """Return the shapes for every block; names in `skip` are left out of the first."""
    return {
        f"{prefix}.{layer}.{name}": shape
        for layer in range(n_layer)
        for name, shape in shapes.items()
        if layer or name not in skip
    }


def replace_all(checkpoint: EditableCheckpoint, config: dict[str, Any], tensors: Any) -> None:
    checkpoint.config = config
    checkpoint.tensors = tensors


def modern_bert(checkpoint: EditableCheckpoint) -> None:
    copy_tokenizer(checkpoint, "gpt2")
    block = {
        "attn_norm.weight": (128,), "attn.Wqkv.weight": (384, 128), "attn.Wo.weight": (128, 128), "mlp_norm.weight": (128,),
        "mlp.Wi.weight": (192, 128), "mlp.Wo.weight": (128, 96),
    }  # fmt: skip
    shapes = {
        "embeddings.tok_embeddings.weight": (390, 128), "embeddings.norm.weight": (128,), "final_norm.weight": (128,),
        **blocks("layers", 4, block, skip=("attn_norm.weight",)),
    }  # fmt: skip
    config = {
        "architectures": ["ModernBertModel"], "model_type": "modernbert", "hidden_size": 128, "intermediate_size": 96,
        "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 390, "max_position_embeddings": 256,
        "norm_eps": 1e-5, "layer_norm_eps": 1e-5, "local_attention": 16, "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0, "hidden_activation": "gelu", "attention_bias": False, "mlp_bias": False,
        "norm_bias": False, "pad_token_id": 389, "cls_token_id": 389, "sep_token_id": 389, "torch_dtype": "float32",
        "classifier_pooling": "mean",
    }  # fmt: skip
    replace_all(checkpoint, config, made_up(11, shapes, "F32"))


def falcon_mamba(checkpoint: EditableCheckpoint) -> None:
    checkpoint.config |= {
        "architectures": ["FalconMambaForCausalLM"], "model_type": "falcon_mamba", "mixer_rms_eps": 1e-6,
        "tie_word_embeddings": False,
    }  # fmt: skip
    kind, embedding = checkpoint.tensors["backbone.embeddings.weight"]
    checkpoint.tensors["lm_head.weight"] = (kind, embedding[::-1].copy())


EXPERT = {"gate_proj.weight": (64, 128), "up_proj.weight": (64, 128), "down_proj.weight": (128, 64)}


def mixture(first_dense: Shapes, shared: int, router: Shapes) -> dict[str, tuple[int, ...]]:
    """Return a dense block's MLP and, in the second block, four experts with shared ones of `shared` width."""
    shapes = {f"model.layers.0.mlp.{name}": shape for name, shape in first_dense.items()}
    shapes |= {f"model.layers.1.mlp.{name}": shape for name, shape in router.items()}
    for expert in range(4):
        shapes |= {f"model.layers.1.mlp.experts.{expert}.{name}": shape for name, shape in EXPERT.items()}
    widths = {"gate_proj": (shared, 128), "up_proj": (shared, 128), "down_proj": (128, shared)}
    return shapes | {f"model.layers.1.mlp.shared_experts.{name}.weight": shape for name, shape in widths.items()}


DENSE = {"gate_proj.weight": (96, 128), "up_proj.weight": (96, 128), "down_proj.weight": (128, 96)}
NORMS = {"input_layernorm.weight": (128,), "post_attention_layernorm.weight": (128,)}


def deepseek_moe(checkpoint: EditableCheckpoint) -> None:
    attention = {f"self_attn.{name}_proj.weight": (128, 128) for name in "qo"}
    attention |= {f"self_attn.{name}_proj.weight": (64, 128) for name in "kv"}
    shapes = {
        "model.embed_tokens.weight": (400, 128), "model.norm.weight": (128,), "lm_head.weight": (400, 128),
        **blocks("model.layers", 2, NORMS | attention), **mixture(DENSE, 128, {"gate.weight": (4, 128)}),
    }  # fmt: skip
    config = {
        "architectures": ["DeepseekForCausalLM"], "model_type": "deepseek", "hidden_size": 128, "intermediate_size": 96,
        "moe_intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "n_routed_experts": 4, "n_shared_experts": 2, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
        "moe_layer_freq": 1, "norm_topk_prob": False, "scoring_func": "softmax", "rms_norm_eps": 1e-6,
        "rope_theta": 10000, "max_position_embeddings": 256, "vocab_size": 400, "hidden_act": "silu",
        "attention_bias": False, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 388,
        "eos_token_id": 389,
    }  # fmt: skip
    replace_all(checkpoint, config, made_up(12, shapes))


def ling2(checkpoint: EditableCheckpoint) -> None:
    attention = {
        "attention.query_key_value.weight": (256, 128), "attention.dense.weight": (128, 128),
        "attention.query_layernorm.weight": (32,), "attention.key_layernorm.weight": (32,),
    }  # fmt: skip
    shapes = {
        "model.word_embeddings.weight": (400, 128), "model.norm.weight": (128,), "lm_head.weight": (400, 128),
        **blocks("model.layers", 2, NORMS | attention),
        **mixture(DENSE, 64, {"gate.weight": (4, 128), "gate.expert_bias": (4,)}),
    }  # fmt: skip
    config = {
        "architectures": ["BailingMoeV2ForCausalLM"], "model_type": "bailing_moe_v2", "hidden_size": 128,
        "intermediate_size": 96, "moe_intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 32, "num_experts": 4, "num_shared_experts": 1, "num_experts_per_tok": 2,
        "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1, "norm_topk_prob": True, "score_function": "sigmoid",
        "routed_scaling_factor": 2.5, "moe_router_enable_expert_bias": True, "partial_rotary_factor": 0.5,
        "use_qk_norm": True, "use_qkv_bias": False, "rms_norm_eps": 1e-6, "rope_theta": 600000.0,
        "max_position_embeddings": 256, "vocab_size": 400, "hidden_act": "silu", "tie_word_embeddings": False,
        "num_nextn_predict_layers": 0, "torch_dtype": "bfloat16",
    }  # fmt: skip
    replace_all(checkpoint, config, made_up(13, shapes))


def exaone3(checkpoint: EditableCheckpoint) -> None:
    copy_tokenizer(checkpoint, "granite")
    block = {
        "ln_1.weight": (128,), "ln_2.weight": (128,), "attn.attention.q_proj.weight": (128, 128),
        "attn.attention.k_proj.weight": (64, 128), "attn.attention.v_proj.weight": (64, 128),
        "attn.attention.out_proj.weight": (128, 128), "mlp.c_fc_0.weight": (96, 128), "mlp.c_fc_1.weight": (96, 128),
        "mlp.c_proj.weight": (128, 96),
    }  # fmt: skip
    shapes = {
        "transformer.wte.weight": (400, 128), "transformer.ln_f.weight": (128,), "lm_head.weight": (400, 128),
        **blocks("transformer.h", 2, block),
    }  # fmt: skip
    config = {
        "architectures": ["ExaoneForCausalLM"], "model_type": "exaone", "hidden_size": 128, "intermediate_size": 96,
        "num_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "layer_norm_epsilon": 1e-5,
        "activation_function": "silu", "max_position_embeddings": 256, "vocab_size": 400, "rope_theta": 1000000,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 128},
        "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    replace_all(checkpoint, config, made_up(14, shapes))


RELATIVES = {
    "modern_bert": ("bert", modern_bert),
    "falcon_mamba": ("mamba", falcon_mamba),
    "deepseek_moe": ("deepseek_v2", deepseek_moe),
    "ling2": ("bailing_moe", ling2),
    "exaone3": ("exaone4", exaone3),
}
