"""Small checkpoints of families that resemble one of the kit's cases, most with weights of their own."""

from architectures.made_up_tensors import Shapes, blocks, copy_tokenizer, made_up, replace_all
from editable_checkpoint import EditableCheckpoint


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


def glm(checkpoint: EditableCheckpoint) -> None:
    """GLM 4 of 2024: GLM 4 without the norms after attention and MLP."""
    checkpoint.config |= {"architectures": ["GlmForCausalLM"], "model_type": "glm", "max_position_embeddings": 512}
    checkpoint.tensors = {
        name: one
        for name, one in checkpoint.tensors.items()
        if not name.endswith(("post_self_attn_layernorm.weight", "post_mlp_layernorm.weight"))
    }


def trinity(checkpoint: EditableCheckpoint) -> None:
    """Arcee's Trinity: a gate on attention, norms on both sides, four layers for the pattern of windows."""
    attention = {
        "q_proj.weight": (128, 128), "k_proj.weight": (64, 128), "v_proj.weight": (64, 128), "o_proj.weight": (128, 128),
        "gate_proj.weight": (128, 128), "q_norm.weight": (32,), "k_norm.weight": (32,),
    }  # fmt: skip
    norms = ("input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm")
    block = {f"self_attn.{name}": shape for name, shape in attention.items()} | {
        f"{name}.weight": (128,) for name in norms
    }
    router = {"router.gate.weight": (4, 128), "expert_bias": (4,)}
    mixtures = mixture(DENSE, 64, router)
    for layer in (2, 3):
        mixtures |= {
            name.replace(".1.", f".{layer}.", 1): shape for name, shape in mixtures.items() if "layers.1." in name
        }
    shapes = {
        "model.embed_tokens.weight": (400, 128), "model.norm.weight": (128,), "lm_head.weight": (400, 128),
        **blocks("model.layers", 4, block), **mixtures,
    }  # fmt: skip
    config = {
        "architectures": ["AfmoeForCausalLM"], "model_type": "afmoe", "hidden_size": 128, "intermediate_size": 96,
        "moe_intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
        "num_dense_layers": 1, "num_experts": 4, "num_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 1,
        "topk_group": 1, "route_norm": True, "route_scale": 2.5, "score_func": "sigmoid", "mup_enabled": True,
        "sliding_window": 16, "global_attn_every_n_layers": 4,
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "rms_norm_eps": 1e-5, "rope_theta": 10000, "max_position_embeddings": 256, "vocab_size": 400, "hidden_act": "silu",
        "attention_bias": False, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    replace_all(checkpoint, config, made_up(22, shapes))


def smallthinker(checkpoint: EditableCheckpoint) -> None:
    """Experts of every layer, four layers for the pattern of windows."""
    attention = {
        "q_proj.weight": (128, 128), "k_proj.weight": (64, 128), "v_proj.weight": (64, 128), "o_proj.weight": (128, 128),
    }  # fmt: skip
    block = NORMS | {f"self_attn.{name}": shape for name, shape in attention.items()}
    block |= {"block_sparse_moe.primary_router.weight": (4, 128)}
    for expert in range(4):
        block |= {
            f"block_sparse_moe.experts.{expert}.{name.replace('_proj', '')}": shape for name, shape in EXPERT.items()
        }
    shapes = {
        "model.embed_tokens.weight": (400, 128), "model.norm.weight": (128,), "lm_head.weight": (400, 128),
        **blocks("model.layers", 4, block),
    }  # fmt: skip
    config = {
        "architectures": ["SmallThinkerForCausalLM"], "model_type": "smallthinker", "hidden_size": 128,
        "moe_ffn_hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
        "moe_num_primary_experts": 4, "moe_num_active_primary_experts": 2, "moe_primary_router_apply_softmax": False,
        "sliding_window_layout": [0, 1, 1, 1], "rope_layout": [0, 1, 1, 1], "sliding_window_size": 4096,
        "rms_norm_eps": 1e-6, "rope_theta": 1500000.0, "max_position_embeddings": 256, "vocab_size": 400,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    replace_all(checkpoint, config, made_up(23, shapes))


def nemotron3(checkpoint: EditableCheckpoint) -> None:
    """Nemotron 3: experts where the MLPs were, without a gate."""
    checkpoint.config |= {
        "hybrid_override_pattern": "MEM*", "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1,
        "moe_intermediate_size": 64, "moe_shared_expert_intermediate_size": 96, "n_group": 1, "topk_group": 1,
        "norm_topk_prob": True, "routed_scaling_factor": 2.5,
    }  # fmt: skip
    shapes = {
        "gate.weight": (4, 128), "gate.e_score_correction_bias": (4,), "shared_experts.up_proj.weight": (96, 128),
        "shared_experts.down_proj.weight": (128, 96),
    }  # fmt: skip
    for expert in range(4):
        shapes |= {f"experts.{expert}.up_proj.weight": (64, 128), f"experts.{expert}.down_proj.weight": (128, 64)}
    mlp = "backbone.layers.1.mixer."
    checkpoint.tensors = {name: one for name, one in checkpoint.tensors.items() if not name.startswith(mlp)}
    checkpoint.tensors |= made_up(24, {f"{mlp}{name}": shape for name, shape in shapes.items()})


def dream(checkpoint: EditableCheckpoint) -> None:
    checkpoint.config |= {"architectures": ["DreamModel"], "model_type": "Dream", "mask_token_id": 389}


def maincoder(checkpoint: EditableCheckpoint) -> None:
    checkpoint.config |= {"architectures": ["MaincoderForCausalLM"], "model_type": "maincoder"}


def mellum(checkpoint: EditableCheckpoint) -> None:
    """Mellum 2: windows on three of four layers; here on the only one."""
    checkpoint.config |= {
        "architectures": ["MellumForCausalLM"], "model_type": "mellum", "sliding_window": 16, "use_sliding_window": True,
        "layer_types": ["sliding_attention"],
    }  # fmt: skip


def pangu(checkpoint: EditableCheckpoint) -> None:
    """openPangu: Llama with a bias on every projection of attention."""
    checkpoint.config |= {"architectures": ["PanguEmbeddedForCausalLM"], "model_type": "PanguEmbedded", "bias": True}
    for name in [name for name in checkpoint.tensors if ".self_attn." in name]:
        rows = checkpoint.tensors[name][1].shape[0]
        checkpoint.tensors |= made_up(25, {name.replace("weight", "bias"): (rows,)})


def jais2(checkpoint: EditableCheckpoint) -> None:
    attention = {f"self_attn.{name}_proj.weight": (128, 128) for name in "qo"}
    attention |= {f"self_attn.{name}_proj.weight": (64, 128) for name in "kv"}
    mlp = {"mlp.up_proj.weight": (96, 128), "mlp.down_proj.weight": (128, 96)}
    block = NORMS | attention | mlp
    block |= {name.replace("weight", "bias"): shape[:1] for name, shape in block.items()}
    shapes = {
        "model.embed_tokens.weight": (400, 128), "model.norm.weight": (128,), "model.norm.bias": (128,),
        "lm_head.weight": (400, 128), **blocks("model.layers", 2, block),
    }  # fmt: skip
    config = {
        "architectures": ["Jais2ForCausalLM"], "model_type": "jais2", "hidden_size": 128, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 400,
        "layer_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 256, "hidden_act": "relu2",
        "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    replace_all(checkpoint, config, made_up(26, shapes))


LAYERS = ((2, False, 3.0), (0, False, 1.5), (4, False, 12.0), (0, True, 3.0))
"""heads of K and V, whether attention is one matrix, factor of the MLP's width"""


def nemotron_nas(checkpoint: EditableCheckpoint) -> None:
    """Llama Nemotron Super: one layer is without attention, one has a matrix in its place."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (400, 64), "model.norm.weight": (64,)}
    described = []
    for layer, (kv_heads, linear, factor) in enumerate(LAYERS):
        shapes |= {
            f"model.layers.{layer}.{name}": shape for name, shape in searched_layer(kv_heads, linear, factor).items()
        }
        attention = {"n_heads_in_group": 4 // kv_heads if kv_heads else None, "replace_with_linear": linear}
        described.append({"attention": attention, "ffn": {"ffn_mult": factor}})
    config = {
        "architectures": ["DeciLMForCausalLM"], "model_type": "nemotron-nas", "hidden_size": 64, "intermediate_size": None,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": None, "block_configs": described,
        "vocab_size": 400, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 256,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 128},
        "hidden_act": "silu", "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    }  # fmt: skip
    replace_all(checkpoint, config, made_up(27, shapes))


def searched_layer(kv_heads: int, linear: bool, factor: float) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a layer of 64 elements and four heads."""
    width = -(-int(2 * factor * 64 / 3) // 256) * 256
    shapes: dict[str, tuple[int, ...]] = {
        "mlp.gate_proj.weight": (width, 64), "mlp.up_proj.weight": (width, 64), "mlp.down_proj.weight": (64, width),
        "post_attention_layernorm.weight": (64,),
    }  # fmt: skip
    if kv_heads:
        shapes |= {f"self_attn.{name}_proj.weight": (64, 64) for name in "qo"}
        shapes |= {f"self_attn.{name}_proj.weight": (16 * kv_heads, 64) for name in "kv"}
    if linear:
        shapes |= {"self_attn.linear_attn.weight": (64, 64)}
    return shapes | ({"input_layernorm.weight": (64,)} if kv_heads or linear else {})


def nanbeige(checkpoint: EditableCheckpoint) -> None:
    checkpoint.config |= {"architectures": ["NanbeigeForCausalLM"], "model_type": "nanbeige", "num_loops": 2}


def youtu(checkpoint: EditableCheckpoint) -> None:
    """Youtu-LLM: the dense block of DeepSeek V2 in every layer."""
    copy_tokenizer(checkpoint, "qwen2")
    config = checkpoint.config
    checkpoint.config = {key: value for key, value in config.items() if not key.startswith(("n_", "topk", "first_k"))}
    for key in (
        "num_experts_per_tok",
        "moe_intermediate_size",
        "routed_scaling_factor",
        "norm_topk_prob",
        "scoring_func",
    ):
        checkpoint.config.pop(key, None)
    checkpoint.config |= {"architectures": ["YoutuForCausalLM"], "model_type": "youtu_llm"}
    kept = {name: one for name, one in checkpoint.tensors.items() if ".layers.1.mlp." not in name}
    dense = {name: one for name, one in kept.items() if ".layers.0.mlp." in name}
    checkpoint.tensors = kept | {name.replace(".layers.0.", ".layers.1."): one for name, one in dense.items()}


def kimi_linear(checkpoint: EditableCheckpoint) -> None:
    """A layer of delta attention before one of latent attention; the second has experts."""
    delta = {f"{name}_proj.weight": (64, 128) for name in "qkv"} | {
        f"{name}_conv1d.weight": (64, 1, 4) for name in "qkv"
    }
    delta |= {
        "o_proj.weight": (128, 64), "f_a_proj.weight": (16, 128), "f_b_proj.weight": (64, 16), "g_a_proj.weight": (16, 128),
        "g_b_proj.weight": (64, 16), "b_proj.weight": (4, 128), "A_log": (1, 1, 4, 1), "dt_bias": (64,), "o_norm.weight": (16,),
    }  # fmt: skip
    latent = {
        "q_proj.weight": (4 * 48, 128), "kv_a_proj_with_mqa.weight": (64 + 16, 128), "kv_a_layernorm.weight": (64,),
        "kv_b_proj.weight": (4 * 64, 64), "o_proj.weight": (128, 4 * 32),
    }  # fmt: skip
    moe = {"gate.weight": (4, 128), "gate.e_score_correction_bias": (4,)}
    moe |= {f"shared_experts.{name}": shape for name, shape in EXPERT.items()}
    for expert in range(4):
        moe |= {f"experts.{expert}.w1.weight": (64, 128), f"experts.{expert}.w3.weight": (64, 128)}
        moe |= {f"experts.{expert}.w2.weight": (128, 64)}
    shapes = {
        "model.embed_tokens.weight": (400, 128), "model.norm.weight": (128,), "lm_head.weight": (400, 128),
        **blocks("model.layers", 2, NORMS), **{f"model.layers.0.self_attn.{name}": shape for name, shape in delta.items()},
        **{f"model.layers.0.mlp.{name}": shape for name, shape in DENSE.items()},
        **{f"model.layers.1.self_attn.{name}": shape for name, shape in latent.items()},
        **{f"model.layers.1.block_sparse_moe.{name}": shape for name, shape in moe.items()},
    }  # fmt: skip
    config = {
        "architectures": ["KimiLinearForCausalLM"], "model_type": "kimi_linear", "hidden_size": 128, "intermediate_size": 96,
        "moe_intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32,
        "kv_lora_rank": 64, "q_lora_rank": None, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32,
        "mla_use_nope": True, "num_experts": 4, "num_experts_per_token": 2, "num_shared_experts": 1,
        "first_k_dense_replace": 1, "moe_layer_freq": 1, "moe_router_activation_func": "sigmoid", "moe_renormalize": True,
        "routed_scaling_factor": 2.446, "num_expert_group": 1, "topk_group": 1, "use_grouped_topk": True,
        "linear_attn_config": {"full_attn_layers": [2], "kda_layers": [1], "head_dim": 16, "num_heads": 4,
                               "short_conv_kernel_size": 4},
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "model_max_length": 256, "vocab_size": 400, "hidden_act": "silu",
        "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    replace_all(checkpoint, config, made_up(29, shapes))


RELATIVES = {
    "kimi_linear": ("deepseek_v3", kimi_linear),
    "nanbeige": ("llama2", nanbeige),
    "youtu": ("deepseek_v2", youtu),
    "dream": ("qwen2", dream),
    "maincoder": ("qwen3", maincoder),
    "mellum": ("qwen3_moe", mellum),
    "pangu": ("ernie4_5", pangu),
    "jais2": ("qwen2", jais2),
    "nemotron_nas": ("llama_hf_vocab", nemotron_nas),
    "nemotron3": ("nemotron_h", nemotron3),
    "trinity": ("qwen2", trinity),
    "smallthinker": ("qwen2", smallthinker),
    "glm": ("glm4", glm),
    "falcon_mamba": ("mamba", falcon_mamba),
    "deepseek_moe": ("deepseek_v2", deepseek_moe),
    "ling2": ("bailing_moe", ling2),
    "exaone3": ("exaone4", exaone3),
}
