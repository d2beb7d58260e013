"""Mistral's own format: params.json and consolidated*.safetensors, as mistral-inference reads and mistral-finetune writes them.

The numbers of params.json go by names that `model_config` knows; tensors keep theirs, in the order that llama.cpp rotates.
Source: `TransformerArgs` in src/mistral_inference/args.py of mistral-inference, and `convert_config` in transformers'
convert_mistral_weights_to_hf.py for what the file leaves open.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from toolkit.errors import CheckpointError

PARAMS = "params.json"
STEM = "consolidated"
CLASS = "MistralTransformer"
"""in place of the class that a config.json would name"""
CONTEXT = 32768
"""tokens, where the file does not say: what transformers' converter takes"""
_WINDOWED_THETA = 10000.0
"""base of the rope frequencies of the first model, whose file has a window and no base"""

_NOT_READ = {
    "moe": "a mixture of experts",
    "lora": "an adapter that is not merged",
    "yarn": "yarn scaling",
    "llama_4_scaling": "attention that grows with position",
    "q_lora_rank": "multi-head latent attention",
    "multimodal": "an audio or vision part of a newer kind",
}
"""key of params.json -> what it makes of the model"""


def is_mistral_format(names: Iterable[str]) -> bool:
    """Tell by the names of its files whether a folder holds a model in this format and in no other."""
    files = set(names)
    weights = {name for name in files if name.endswith(".safetensors")}
    own = {name for name in weights if name.startswith(STEM)}
    others = (weights - own) | {name for name in files if name.startswith("pytorch_model")}
    return PARAMS in files and bool(own) and not others


def config_from_params(params: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return params.json as a config, and notes on what was taken for granted.

    Raises CheckpointError for a model of a kind that is not read.
    """
    _refuse_other_kinds(params)
    config = {key: value for key, value in params.items() if key not in ("model_type", "quantization")}
    config |= {"architectures": [CLASS], "tie_word_embeddings": bool(params.get("tied_embeddings"))}
    config |= _rope_theta(params) | _quantization(params)
    if params.get("max_seq_len") or params.get("max_position_embeddings"):
        return config, ()
    return config | {"max_position_embeddings": CONTEXT}, (
        f"{PARAMS} does not say how long a context the model was made for: {CONTEXT} tokens are taken",
    )


def _refuse_other_kinds(params: Mapping[str, Any]) -> None:
    kinds = [what for key, what in _NOT_READ.items() if params.get(key)]
    if params.get("model_type", "transformer") != "transformer":
        kinds.append(f"model_type {params['model_type']!r}")
    if kinds:
        raise _refusal(f"{kinds[0]}, which is not read from there")


def _rope_theta(params: Mapping[str, Any]) -> dict[str, Any]:
    if params.get("rope_theta") is not None:
        return {}
    if params.get("sliding_window"):
        return {"rope_theta": _WINDOWED_THETA}
    raise _refusal("no rope_theta, and nothing that implies one")


def _quantization(params: Mapping[str, Any]) -> dict[str, Any]:
    declared = params.get("quantization")
    if not declared:
        return {}
    if isinstance(declared, dict) and declared.get("qformat_weight") == "fp8_e4m3":
        return {"quantization_config": {"quant_method": "fp8"}}
    raise _refusal(f"the quantization {declared!r}, which is not read")


def _refusal(what: str) -> CheckpointError:
    return CheckpointError(
        f"{PARAMS} says of the model (in Mistral's own format): {what}; take its Hugging Face files instead, config.json with "
        "model*.safetensors"
    )
