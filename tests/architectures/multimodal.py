"""Text models inside multimodal checkpoints: a config inside a config, names below a prefix."""

import json
from typing import Any

import numpy
from architectures.made_up_tensors import GATE_UP_DOWN, bfloat16, blocks, made_up
from editable_checkpoint import EditableCheckpoint

TOP_LEVEL = ("torch_dtype", "bos_token_id", "eos_token_id", "pad_token_id")
EXPERTS = "model.layers.0.mlp.experts."


def as_text_of(
    checkpoint: EditableCheckpoint, class_: str, model_type: str, text_type: str, vision: dict[str, Any]
) -> None:
    """Move the config into the `text_config` of a multimodal model."""
    config = checkpoint.config
    text = {key: value for key, value in config.items() if key not in ("architectures", "model_type")}
    top = {key: value for key, value in config.items() if key in TOP_LEVEL}
    checkpoint.config = top | {
        "architectures": [class_],
        "model_type": model_type,
        "text_config": text | {"model_type": text_type},
        "vision_config": vision,
    }


def mistral_small(checkpoint: EditableCheckpoint) -> None:
    vision = {"model_type": "pixtral", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    as_text_of(checkpoint, "Mistral3ForConditionalGeneration", "mistral3", "mistral", vision)
    checkpoint.rename("", "language_model.")


def qwen2_5_vl(checkpoint: EditableCheckpoint) -> None:
    checkpoint.config |= {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
        "vision_config": {"depth": 1, "hidden_size": 64, "num_heads": 2},
    }


def qwen3_vl(checkpoint: EditableCheckpoint) -> None:
    see(checkpoint, "Qwen3VLForConditionalGeneration", "qwen3_vl", [24, 20, 20])


def qwen3_vl_moe(checkpoint: EditableCheckpoint) -> None:
    see(checkpoint, "Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe", [12, 10, 10])
    gate, up, down = (
        numpy.stack([checkpoint.tensors.pop(f"model.language_model.{rest}")[1] for rest in names])
        for names in ([f"{EXPERTS[6:]}{expert}.{name}.weight" for expert in range(64)] for name in GATE_UP_DOWN)
    )
    prefix = f"model.language_model.{EXPERTS[6:]}"
    checkpoint.tensors[f"{prefix}gate_up_proj"] = ("BF16", numpy.concatenate([gate, up], 1).swapaxes(1, 2).copy())
    checkpoint.tensors[f"{prefix}down_proj"] = ("BF16", down.swapaxes(1, 2).copy())


def see(checkpoint: EditableCheckpoint, class_: str, model_type: str, sections: list[int]) -> None:
    as_text_of(
        checkpoint, class_, model_type, f"{model_type}_text", {"depth": 2, "deepstack_visual_indexes": [0, 1, 2]}
    )
    checkpoint.config["text_config"]["rope_scaling"] = {
        "mrope_interleaved": True,
        "mrope_section": sections,
        "rope_type": "default",
    }
    checkpoint.rename("model.", "model.language_model.")


def llama4_vision(checkpoint: EditableCheckpoint) -> None:
    as_text_of(
        checkpoint, "Llama4ForConditionalGeneration", "llama4", "llama4_text", {"model_type": "llama4_vision_model"}
    )
    checkpoint.rename("", "language_model.")


def beside(checkpoint: EditableCheckpoint, *names: str) -> None:
    """Add tensors that are no part of the text model."""
    random = numpy.random.RandomState(16)
    checkpoint.tensors |= {name: bfloat16(random, (8, 8)) for name in names}


def smolvlm(checkpoint: EditableCheckpoint) -> None:
    vision = {"model_type": "smolvlm_vision", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    as_text_of(checkpoint, "SmolVLMForConditionalGeneration", "smolvlm", "llama", vision)
    checkpoint.config["text_config"]["architectures"] = ["VLlama3ForCausalLM"]
    checkpoint.rename("model.", "model.text_model.")
    beside(
        checkpoint,
        "model.connector.modality_projection.proj.weight",
        "model.vision_model.encoder.layers.0.mlp.fc1.weight",
    )


def llava(checkpoint: EditableCheckpoint) -> None:
    as_text_of(checkpoint, "LlavaForConditionalGeneration", "llava", "llama", {"model_type": "clip_vision_model"})
    checkpoint.config["text_config"]["architectures"] = ["LlamaForCausalLM"]
    checkpoint.rename("", "language_model.")
    beside(checkpoint, "multi_modal_projector.linear_1.weight", "vision_tower.vision_model.post_layernorm.weight")


def internvl(checkpoint: EditableCheckpoint) -> None:
    """InternVL as its authors publish it: the config of the text model is called llm_config."""
    as_text_of(checkpoint, "InternVLChatModel", "internvl_chat", "qwen2", {"model_type": "intern_vit_6b"})
    checkpoint.config["llm_config"] = checkpoint.config.pop("text_config") | {"architectures": ["Qwen2ForCausalLM"]}
    checkpoint.rename("", "language_model.")
    beside(checkpoint, "mlp1.1.weight", "vision_model.encoder.layers.0.mlp.fc1.weight")


def kimi_vl(checkpoint: EditableCheckpoint) -> None:
    as_text_of(checkpoint, "KimiVLForConditionalGeneration", "kimi_vl", "deepseek_v3", {"model_type": "moonvit"})
    checkpoint.config["text_config"]["architectures"] = ["DeepseekV3ForCausalLM"]
    checkpoint.rename("", "language_model.")
    beside(checkpoint, "multi_modal_projector.linear_1.weight", "vision_tower.patch_embed.proj.weight")


def qwen2_5_omni(checkpoint: EditableCheckpoint) -> None:
    think(checkpoint, "Qwen2_5OmniModel", "qwen2_5_omni", [8, 12, 12])
    beside(checkpoint, "token2wav.code2wav_dit_model.proj_out.weight", "talker.model.layers.0.mlp.up_proj.weight")


def qwen3_omni(checkpoint: EditableCheckpoint) -> None:
    think(checkpoint, "Qwen3OmniMoeForConditionalGeneration", "qwen3_omni_moe", [12, 10, 10])
    beside(checkpoint, "code2wav.decoder.0.conv.weight", "talker.text_projection.linear_fc1.weight")


def think(checkpoint: EditableCheckpoint, class_: str, model_type: str, sections: list[int]) -> None:
    """Make it the part of a model that thinks, beside one that talks."""
    checkpoint.config["rope_scaling"] = {"type": "default", "rope_type": "default", "mrope_section": sections}
    as_text_of(checkpoint, class_, model_type, f"{model_type}_text", {"depth": 1})
    inside = {key: checkpoint.config.pop(key) for key in ("text_config", "vision_config")}
    checkpoint.config["thinker_config"] = inside | {"model_type": f"{model_type}_thinker"}
    checkpoint.rename("", "thinker.")
    beside(checkpoint, "thinker.visual.patch_embed.proj.weight", "thinker.audio_tower.layers.0.fc1.weight")


def glm4v(checkpoint: EditableCheckpoint) -> None:
    glm_with_sections(checkpoint, "Glm4vForConditionalGeneration", "glm4v", [8, 4, 4])


def glm4v_moe(checkpoint: EditableCheckpoint) -> None:
    glm_with_sections(checkpoint, "Glm4vMoeForConditionalGeneration", "glm4v_moe", [4, 2, 2])


def glm_ocr(checkpoint: EditableCheckpoint) -> None:
    """GLM-OCR: a layer after the others predicts the next token but one."""
    last = {name: one for name, one in checkpoint.tensors.items() if ".layers.1." in name}
    checkpoint.tensors |= {name.replace(".layers.1.", ".layers.2."): one for name, one in last.items()}
    shapes = {
        "eh_proj.weight": (256, 512), "enorm.weight": (256,), "hnorm.weight": (256,), "embed_tokens.weight": (400, 256),
        "shared_head.head.weight": (400, 256), "shared_head.norm.weight": (256,),
    }  # fmt: skip
    checkpoint.tensors |= made_up(17, {f"model.layers.2.{name}": shape for name, shape in shapes.items()})
    checkpoint.config["num_nextn_predict_layers"] = 1
    glm_with_sections(checkpoint, "GlmOcrForConditionalGeneration", "glm_ocr", [8, 4, 4])


def glm_with_sections(checkpoint: EditableCheckpoint, class_: str, model_type: str, sections: list[int]) -> None:
    checkpoint.config["rope_scaling"] = {"rope_type": "default", "mrope_section": sections}
    as_text_of(checkpoint, class_, model_type, f"{model_type}_text", {"depth": 1, "hidden_size": 64})
    checkpoint.rename("model.", "model.language_model.")
    beside(checkpoint, "model.visual.merger.proj.weight")


def dots_ocr(checkpoint: EditableCheckpoint) -> None:
    checkpoint.config |= {"architectures": ["DotsOCRForCausalLM"], "model_type": "dots_ocr", "vision_config": {}}
    beside(checkpoint, "vision_tower.blocks.0.attn.proj.weight")


GEMMA4_BLOCK = {
    "input_layernorm.weight": (128,), "post_attention_layernorm.weight": (128,), "pre_feedforward_layernorm.weight": (128,),
    "post_feedforward_layernorm.weight": (128,), "layer_scalar": (1,),
}  # fmt: skip


def gemma4_e2b(checkpoint: EditableCheckpoint) -> None:
    """Embeddings for every layer; the last two layers use the keys of others and have a wider MLP."""
    shapes = {
        "embed_tokens.weight": (400, 128), "norm.weight": (128,), "embed_tokens_per_layer.weight": (400, 64),
        "per_layer_model_projection.weight": (64, 128), "per_layer_projection_norm.weight": (16,),
        **blocks("layers", 4, GEMMA4_BLOCK | {
            "per_layer_input_gate.weight": (16, 128), "per_layer_projection.weight": (128, 16),
            "post_per_layer_input_norm.weight": (128,),
        }),
    }  # fmt: skip
    for layer, (head, width) in enumerate(((32, 128), (64, 128), (32, 256), (64, 256))):
        shapes |= gemma4_layer(layer, head, width, kv_heads=1, values=True)
    changes = {
        "num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 2,
        "use_double_wide_mlp": True, "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 400,
        "attention_k_eq_v": False, "num_global_key_value_heads": None, "num_key_value_heads": 1,
    }  # fmt: skip
    gemma4(checkpoint, shapes, changes)
    beside(checkpoint, "model.audio_tower.layers.0.norm_out.weight", "model.embed_audio.embedding_projection.weight")


def gemma4_moe(checkpoint: EditableCheckpoint) -> None:
    """Experts beside the MLP; global layers have no values of their own."""
    shapes = {
        "embed_tokens.weight": (400, 128), "norm.weight": (128,),
        **blocks("layers", 2, GEMMA4_BLOCK | {
            "router.proj.weight": (4, 128), "router.scale": (128,), "router.per_expert_scale": (4,),
            "experts.gate_up_proj": (4, 128, 128), "experts.down_proj": (4, 128, 64),
            "post_feedforward_layernorm_1.weight": (128,), "pre_feedforward_layernorm_2.weight": (128,),
            "post_feedforward_layernorm_2.weight": (128,),
        }),
        **gemma4_layer(0, 32, 128, kv_heads=2, values=True), **gemma4_layer(1, 64, 128, kv_heads=1, values=False),
    }  # fmt: skip
    changes = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 64}
    gemma4(checkpoint, shapes, changes)


def gemma4_layer(layer: int, head: int, width: int, kv_heads: int, *, values: bool) -> dict[str, tuple[int, ...]]:
    """Return attention and MLP of a layer of four heads."""
    kv = {"k_proj": (kv_heads * head, 128)} | ({"v_proj": (kv_heads * head, 128)} if values else {})
    attention = {"q_proj": (4 * head, 128), "o_proj": (128, 4 * head), "q_norm": (head,), "k_norm": (head,)} | kv
    mlp = {"gate_proj": (width, 128), "up_proj": (width, 128), "down_proj": (128, width)}
    return {f"layers.{layer}.self_attn.{name}.weight": shape for name, shape in attention.items()} | {
        f"layers.{layer}.mlp.{name}.weight": shape for name, shape in mlp.items()
    }


def gemma4(checkpoint: EditableCheckpoint, shapes: dict[str, tuple[int, ...]], changes: dict[str, Any]) -> None:
    checkpoint.config |= changes
    as_text_of(checkpoint, "Gemma4ForConditionalGeneration", "gemma4", "gemma4_text", {"model_type": "gemma4_vision"})
    checkpoint.tensors = made_up(18, {f"model.language_model.{name}": shape for name, shape in shapes.items()})
    beside(
        checkpoint, "model.vision_tower.encoder.layers.0.norm.weight", "model.embed_vision.embedding_projection.weight"
    )


def gemma4_unified(checkpoint: EditableCheckpoint) -> None:
    """Gemma 4 with an embedder in place of a vision tower, and tokens that it never says."""
    as_text_of(checkpoint, "Gemma4UnifiedForConditionalGeneration", "gemma4_unified", "gemma4_unified_text", {})
    checkpoint.rename("model.", "model.language_model.")
    beside(checkpoint, "model.vision_embedder.patch_dense.weight", "model.embed_vision.embedding_projection.weight")
    (checkpoint.directory / "generation_config.json").write_text(json.dumps({"suppress_tokens": [7, 9]}))


def paddleocr_vl(checkpoint: EditableCheckpoint) -> None:
    checkpoint.config |= {
        "architectures": ["PaddleOCRVLForConditionalGeneration"], "model_type": "paddleocr_vl", "vision_config": {},
        "rope_scaling": {"mrope_section": [8, 12, 12], "rope_type": "default", "type": "default"},
    }  # fmt: skip
    beside(checkpoint, "mlp_AR.linear_1.weight", "visual.vision_model.post_layernorm.weight")


def phi4_vision(checkpoint: EditableCheckpoint) -> None:
    checkpoint.config |= {
        "architectures": ["Phi4ForCausalLMV"],
        "model_type": "phi4-siglip",
        "mm_projector_type": "mlp2x_gelu",
    }
    beside(checkpoint, "model.mm_projector.0.weight", "model.vision_tower.vision_tower.post_layernorm.weight")


def hunyuan_ocr(checkpoint: EditableCheckpoint) -> None:
    """HunyuanOCR: rope in sections; its ends stand where the others' do not."""
    checkpoint.config |= {
        "architectures": ["HunYuanVLForConditionalGeneration"], "model_type": "hunyuan_vl", "eod_token_id": 388,
        "rope_scaling": {"type": "xdrope", "alpha": 1000.0, "factor": 1.0, "xdrope_section": [16, 16, 16, 16]},
        "vision_config": {},
    }  # fmt: skip
    beside(checkpoint, "vit.layers.0.mlp.dense_h_to_4h.weight")
    (checkpoint.directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [387, 385]}))


def janus(checkpoint: EditableCheckpoint) -> None:
    as_text_of(checkpoint, "JanusForConditionalGeneration", "janus", "llama", {"model_type": "janus_vision_model"})
    checkpoint.rename("model.", "model.language_model.")
    beside(
        checkpoint, "model.aligner.fc1.weight", "model.vqmodel.quantize.weight", "model.generation_head.proj_out.weight"
    )


def step3_vl(checkpoint: EditableCheckpoint) -> None:
    as_text_of(checkpoint, "StepVLForConditionalGeneration", "step3_vl", "qwen3", {"width": 64})
    checkpoint.config["text_config"]["architectures"] = ["Qwen3ForCausalLM"]
    beside(checkpoint, "vit_large_projector.weight", "vision_model.transformer.resblocks.0.mlp.c_fc.weight")


def exaone4_5(checkpoint: EditableCheckpoint) -> None:
    """A layer that predicts the next token but one, under names of its own."""
    as_text_of(checkpoint, "Exaone4_5_ForConditionalGeneration", "exaone4_5", "exaone4_5_text", {"depth": 1})
    last = {name: one for name, one in checkpoint.tensors.items() if ".layers.1." in name}
    checkpoint.rename("model.", "model.language_model.")
    checkpoint.tensors |= {name.replace("model.layers.1.", "mtp.layers.0."): one for name, one in last.items()}
    size = checkpoint.config["text_config"]["hidden_size"]
    shapes = {"fc.weight": (size, 2 * size)} | {
        f"{name}.weight": (size,) for name in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm")
    }
    checkpoint.tensors |= made_up(28, {f"mtp.{name}": shape for name, shape in shapes.items()})
    checkpoint.config["text_config"] |= {"num_nextn_predict_layers": 1, "mtp_share_layers": False}
    beside(checkpoint, "model.visual.merger.mlp.0.weight")


def minicpm_v4_6(checkpoint: EditableCheckpoint) -> None:
    """Made by the converter with --flag no_mtp."""
    as_text_of(checkpoint, "MiniCPMV4_6ForConditionalGeneration", "minicpmv4_6", "qwen3_5_text", {"hidden_size": 64})
    checkpoint.rename("model.", "model.language_model.")
    beside(checkpoint, "model.merger.mlp.0.linear_1.weight", "model.vision_tower.post_layernorm.weight")


MULTIMODAL = {
    "minicpm_v4_6": ("qwen3_5", minicpm_v4_6),
    "janus": ("llama3", janus),
    "step3_vl": ("qwen3", step3_vl),
    "exaone4_5": ("exaone4", exaone4_5),
    "hunyuan_ocr": ("hunyuan", hunyuan_ocr),
    "gemma4_unified": ("gemma4", gemma4_unified),
    "paddleocr_vl": ("ernie4_5", paddleocr_vl),
    "phi4_vision": ("phi3", phi4_vision),
    "smolvlm": ("smollm", smolvlm),
    "llava": ("llama2", llava),
    "internvl": ("qwen2", internvl),
    "kimi_vl": ("deepseek_v3", kimi_vl),
    "qwen2_5_omni": ("qwen2", qwen2_5_omni),
    "qwen3_omni": ("qwen3_moe", qwen3_omni),
    "glm4v": ("glm4", glm4v),
    "glm4v_moe": ("glm4_moe", glm4v_moe),
    "glm_ocr": ("glm4", glm_ocr),
    "dots_ocr": ("qwen2", dots_ocr),
    "gemma4_e2b": ("gemma4", gemma4_e2b),
    "gemma4_moe": ("gemma4", gemma4_moe),
    "mistral_small": ("mistral", mistral_small),
    "qwen2_5_vl": ("qwen2", qwen2_5_vl),
    "qwen3_vl": ("qwen3", qwen3_vl),
    "qwen3_vl_moe": ("qwen3_moe", qwen3_vl_moe),
    "llama4_vision": ("llama4", llama4_vision),
}
