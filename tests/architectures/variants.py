"""Checkpoints that the kit lacks, each made of one of its cases: name -> the case, and the change that makes the variant.

`reference/NAME.json` beside this file is the fingerprint of what llama.cpp's own converter makes of it in f32
(commit 0c1e570, transformers 4.57.6), written by `reference_of_variant.py`.
"""

import json

import numpy
from architectures.encoders import ENCODERS
from architectures.made_up_tensors import GATE_UP_DOWN, bfloat16
from architectures.multimodal import MULTIMODAL
from architectures.relatives import RELATIVES
from editable_checkpoint import EditableCheckpoint
from mistral_checkpoint import as_mistral_format
from tokenizer.rank_files import SPECIAL_V7, ranked_tokens, tekken_json, tiktoken_lines, write_json


def ministral(checkpoint: EditableCheckpoint) -> None:
    del checkpoint.config["rope_theta"]
    checkpoint.config |= {"architectures": ["Ministral3ForCausalLM"], "model_type": "ministral3", "head_dim": 64}
    checkpoint.config["rope_parameters"] = {
        "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 256,
        "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1,
    }  # fmt: skip


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


def t5_encoder(checkpoint: EditableCheckpoint) -> None:
    checkpoint.config |= {"architectures": ["T5EncoderModel"], "num_decoder_layers": 3}
    checkpoint.tensors = {name: one for name, one in checkpoint.tensors.items() if not name.startswith("decoder.")}
    checkpoint.tensors["encoder.embed_tokens.weight"] = checkpoint.tensors["shared.weight"]


def t5_first(checkpoint: EditableCheckpoint) -> None:
    """T5 of 2019: no gate in the MLP; here with an output of its own, and one block less in the decoder."""
    checkpoint.config |= {"feed_forward_proj": "relu", "num_decoder_layers": 1}
    checkpoint.tensors = {
        name.replace("wi_1", "wi"): one
        for name, one in checkpoint.tensors.items()
        if "wi_0" not in name and not name.startswith("decoder.block.1.")
    }
    checkpoint.tensors["lm_head.weight"] = bfloat16(numpy.random.RandomState(6), (400, 128))


def without_tokenizer(checkpoint: EditableCheckpoint) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (checkpoint.directory / name).unlink()


def mistral_tekken(checkpoint: EditableCheckpoint) -> None:
    """Mistral's own vocabulary file of its third version, alone: the special tokens are not in it."""
    without_tokenizer(checkpoint)
    checkpoint.config |= {"bos_token_id": 1, "eos_token_id": 2}
    tokens = ranked_tokens("mistral_nemo")[:376]
    write_json(checkpoint.directory / "tekken.json", tekken_json(tokens, None, 24, "v3"))


def mistral_tekken_v7(checkpoint: EditableCheckpoint) -> None:
    """Tokens beyond the default size are cut off, special ones stand in the file."""
    without_tokenizer(checkpoint)
    checkpoint.config |= {"bos_token_id": 1, "eos_token_id": 2}
    content = tekken_json(ranked_tokens("mistral_nemo"), SPECIAL_V7, 24, "v7")
    content["config"]["default_vocab_size"] = 400
    write_json(checkpoint.directory / "tekken.json", content)


def mistral_format(checkpoint: EditableCheckpoint) -> None:
    """Made by the converter with --flag mistral_format."""
    mistral_tekken_v7(checkpoint)
    as_mistral_format(checkpoint)


def kimi(checkpoint: EditableCheckpoint) -> None:
    """Kimi K2: DeepSeek V3 with a tiktoken file; tokenizer_config.json names some of the special tokens."""
    without_tokenizer(checkpoint)
    checkpoint.config |= {"bos_token_id": 384, "eos_token_id": 385, "pad_token_id": 399}
    (checkpoint.directory / "tiktoken.model").write_text(tiktoken_lines(ranked_tokens("deepseek_v3")[:384]))
    named = {384: "[BOS]", 385: "[EOS]", 386: "<|im_end|>", 387: "<|im_user|>", 399: "[PAD]"}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    settings = {
        "added_tokens_decoder": {str(index): {"content": text, **flags} for index, text in named.items()},
        "bos_token": "[BOS]", "eos_token": "[EOS]", "pad_token": "[PAD]", "tokenizer_class": "TikTokenTokenizer",
    }  # fmt: skip
    write_json(checkpoint.directory / "tokenizer_config.json", settings)


QWEN1 = {
    "self_attn.o_proj": "attn.c_proj", "input_layernorm": "ln_1", "post_attention_layernorm": "ln_2",
    "mlp.gate_proj": "mlp.w2", "mlp.up_proj": "mlp.w1", "mlp.down_proj": "mlp.c_proj", "model.layers.": "transformer.h.",
    "model.embed_tokens": "transformer.wte", "model.norm": "transformer.ln_f",
}  # fmt: skip


def qwen1(checkpoint: EditableCheckpoint) -> None:
    """Qwen 1 with its tiktoken file, made of a Qwen 2 whose heads all have keys of their own."""
    without_tokenizer(checkpoint)
    (checkpoint.directory / "qwen.tiktoken").write_text(tiktoken_lines(ranked_tokens("qwen2")[:300]))
    hidden, n_layer = checkpoint.config["hidden_size"], checkpoint.config["num_hidden_layers"]
    checkpoint.config = {
        "architectures": ["QWenLMHeadModel"], "model_type": "qwen", "hidden_size": hidden, "num_hidden_layers": n_layer,
        "num_attention_heads": 4, "intermediate_size": 2 * checkpoint.config["intermediate_size"], "kv_channels": hidden // 4,
        "layer_norm_epsilon": 1e-6, "rotary_emb_base": 10000, "rotary_pct": 1.0, "seq_length": 256, "no_bias": True,
        "max_position_embeddings": 512, "vocab_size": 520, "tie_word_embeddings": False, "bf16": True,
        "use_dynamic_ntk": True, "use_logn_attn": True, "torch_dtype": "bfloat16",
    }  # fmt: skip
    random = numpy.random.RandomState(8)
    kept = {name: one for name, one in checkpoint.tensors.items() if ".self_attn." not in name or ".o_proj." in name}
    kept |= {
        "model.embed_tokens.weight": bfloat16(random, (520, hidden)),
        "lm_head.weight": bfloat16(random, (520, hidden)),
    }
    for old, new in QWEN1.items():
        kept = {name.replace(old, new): one for name, one in kept.items()}
    for layer in range(n_layer):
        kept[f"transformer.h.{layer}.attn.c_attn.weight"] = bfloat16(random, (3 * hidden, hidden))
        kept[f"transformer.h.{layer}.attn.c_attn.bias"] = bfloat16(random, (3 * hidden,))
    checkpoint.tensors = kept


def qwen1_as_qwen2(checkpoint: EditableCheckpoint) -> None:
    """The same weights under the names of Qwen 2, whose vocabulary they keep."""
    config = dict(checkpoint.config)
    files = {name: (checkpoint.directory / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")}
    qwen1(checkpoint)
    (checkpoint.directory / "qwen.tiktoken").unlink()
    for name, content in files.items():
        (checkpoint.directory / name).write_bytes(content)
    checkpoint.config = config | {
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 520, "rope_theta": 10000.0, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False, "max_position_embeddings": 512,
    }  # fmt: skip
    tensors = checkpoint.tensors
    for old, new in QWEN1.items():
        tensors = {name.replace(new, old): one for name, one in tensors.items()}
    for name in [name for name in tensors if ".attn.c_attn." in name]:
        kind, fused = tensors.pop(name)
        for part, values in zip("qkv", numpy.split(fused, 3), strict=True):
            tensors[name.replace("attn.c_attn", f"self_attn.{part}_proj")] = (kind, values)
    checkpoint.tensors = tensors


def orion(checkpoint: EditableCheckpoint) -> None:
    """Orion is Llama with LayerNorm, whose norms have biases."""
    checkpoint.config |= {"architectures": ["OrionForCausalLM"], "model_type": "orion", "max_sequence_length": 128}
    norms = [name for name in checkpoint.tensors if name.endswith("norm.weight")]
    random = numpy.random.RandomState(8)
    for name in norms:
        checkpoint.tensors[name.replace("weight", "bias")] = bfloat16(random, (256,))


def internlm3(checkpoint: EditableCheckpoint) -> None:
    """Biases on Q, K and V, and a chat model's end of text among the added tokens."""
    checkpoint.config |= {
        "architectures": ["InternLM3ForCausalLM"], "model_type": "internlm3", "qkv_bias": True, "bias": False,
        "rope_scaling": {"rope_type": "dynamic", "factor": 6.0}, "max_position_embeddings": 256,
    }  # fmt: skip
    random = numpy.random.RandomState(15)
    for name in [
        name for name in checkpoint.tensors if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))
    ]:
        rows = checkpoint.tensors[name][1].shape[0]
        checkpoint.tensors[name.replace("weight", "bias")] = bfloat16(random, (rows,))
    path = checkpoint.directory / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    settings["added_tokens_decoder"] = {"395": {"content": "<|im_end|>", **flags}}
    settings["add_prefix_space"] = False
    path.write_text(json.dumps(settings), encoding="utf-8")


VARIANTS = {
    **ENCODERS,
    **MULTIMODAL,
    **RELATIVES,
    "internlm3": ("llama_linear", internlm3),
    "orion": ("llama2", orion),
    "mistral_tekken": ("mistral_nemo", mistral_tekken),
    "mistral_tekken_v7": ("mistral_nemo", mistral_tekken_v7),
    "mistral_format": ("mistral_nemo", mistral_format),
    "kimi": ("deepseek_v3", kimi),
    "qwen1": ("qwen2", qwen1),
    "t5_encoder": ("t5", t5_encoder),
    "t5_first": ("t5", t5_first),
    "gpt_oss_plain": ("gpt_oss", gpt_oss_plain),
    "granite4_micro": ("granitemoehybrid", granite4_micro),
    "ministral": ("mistral", ministral),
    "qwen3_5_moe": ("qwen3_5", qwen3_5_moe),
}
