"""Checkpoints that the kit lacks, each made of one of its cases: name -> the case, and the change that makes the variant.

`reference/NAME.json` beside this file is the fingerprint of what llama.cpp's own converter makes of it in f32
(commit 0c1e570, transformers 4.57.6), written with tests/kit/reference.py's Converter and fingerprint.py.
"""

from typing import Any

import numpy
from editable_checkpoint import EditableCheckpoint

TOP_LEVEL = ("torch_dtype", "bos_token_id", "eos_token_id", "pad_token_id")
EXPERTS = "model.layers.0.mlp.experts."
GATE_UP_DOWN = ("gate_proj", "up_proj", "down_proj")


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


def ministral(checkpoint: EditableCheckpoint) -> None:
    del checkpoint.config["rope_theta"]
    checkpoint.config |= {"architectures": ["Ministral3ForCausalLM"], "model_type": "ministral3", "head_dim": 64}
    checkpoint.config["rope_parameters"] = {
        "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 256,
        "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1,
    }  # fmt: skip


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


def qwen3_5_moe(checkpoint: EditableCheckpoint) -> None:
    del checkpoint.config["intermediate_size"]
    checkpoint.config |= {
        "architectures": ["Qwen3_5MoeForCausalLM"], "model_type": "qwen3_5_moe_text", "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64,
    }  # fmt: skip
    random = numpy.random.RandomState(0)
    shapes = {
        "gate.weight": (4, 128), "experts.gate_up_proj": (4, 128, 128), "experts.down_proj": (4, 128, 64),
        "shared_expert.gate_proj.weight": (64, 128), "shared_expert.up_proj.weight": (64, 128),
        "shared_expert.down_proj.weight": (128, 64), "shared_expert_gate.weight": (1, 128),
    }  # fmt: skip
    for block in ("model.layers.0", "model.layers.1", "mtp.layers.0"):
        for name in GATE_UP_DOWN:
            del checkpoint.tensors[f"{block}.mlp.{name}.weight"]
        checkpoint.tensors |= {f"{block}.mlp.{name}": bfloat16(random, shape) for name, shape in shapes.items()}


def bfloat16(random: numpy.random.RandomState, shape: tuple[int, ...]) -> tuple[str, numpy.ndarray]:
    values = (random.randint(-127, 128, shape) / 1024).astype("<f4")  # exact in bfloat16
    return "BF16", (values.view("<u4") >> 16).astype("<u2")


def llama4_vision(checkpoint: EditableCheckpoint) -> None:
    as_text_of(
        checkpoint, "Llama4ForConditionalGeneration", "llama4", "llama4_text", {"model_type": "llama4_vision_model"}
    )
    checkpoint.rename("", "language_model.")


def granite4_micro(checkpoint: EditableCheckpoint) -> None:
    """Granite 4 without Mamba and experts: the class of the hybrids, the graph of Granite 3."""
    checkpoint.config |= {
        "layer_types": ["attention", "attention"], "num_local_experts": 0, "num_experts_per_tok": 0,
        "position_embedding_type": "rope",
    }  # fmt: skip
    attention = {name: one for name, one in checkpoint.tensors.items() if ".layers.1.self_attn." in name}
    checkpoint.tensors = {
        name: one
        for name, one in checkpoint.tensors.items()
        if ".mamba." not in name and ".block_sparse_moe." not in name
    } | {name.replace(".layers.1.", ".layers.0."): one for name, one in attention.items()}


def gpt_oss_plain(checkpoint: EditableCheckpoint) -> None:
    """gpt-oss after fine-tuning: experts in bfloat16, their inputs first."""
    del checkpoint.config["quantization_config"]
    random = numpy.random.RandomState(1)
    for layer in range(2):
        prefix = f"model.layers.{layer}.mlp.experts."
        for name, shape in (("gate_up_proj", (4, 256, 512)), ("down_proj", (4, 256, 256))):
            del checkpoint.tensors[f"{prefix}{name}_blocks"], checkpoint.tensors[f"{prefix}{name}_scales"]
            checkpoint.tensors[f"{prefix}{name}"] = bfloat16(random, shape)


VARIANTS = {
    "gpt_oss_plain": ("gpt_oss", gpt_oss_plain),
    "granite4_micro": ("granitemoehybrid", granite4_micro),
    "mistral_small": ("mistral", mistral_small),
    "ministral": ("mistral", ministral),
    "qwen2_5_vl": ("qwen2", qwen2_5_vl),
    "qwen3_vl": ("qwen3", qwen3_vl),
    "qwen3_vl_moe": ("qwen3_moe", qwen3_vl_moe),
    "qwen3_5_moe": ("qwen3_5", qwen3_5_moe),
    "llama4_vision": ("llama4", llama4_vision),
}
