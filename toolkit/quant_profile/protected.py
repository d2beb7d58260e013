"""Tensors that are not quantized, whatever the profile says.

Two lists that overlap but differ: what llama-quantize leaves alone (`tensor_allows_quantization` in
src/llama-quant.cpp), and what convert_hf_to_gguf always stores as F32 (`prepare_tensors` in conversion/base.py); both of
llama.cpp, commit 0c1e570. Exceptions go by the names of llama.cpp's graphs, which any GGUF file has, whoever made it.
"""

import re

_NEVER_QUANTIZED_PARTS = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    *(f"time_mix_{part}.weight" for part in ("first", "decay_w1", "decay_w2", "lerp_fused")),
    *(f"time_mix_{part}.weight" for part in ("w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1", "g2")),
    "attn_rel_b.weight",
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
)
_NEVER_QUANTIZED = re.compile("|".join(map(re.escape, _NEVER_QUANTIZED_PARTS)))
_NEVER_QUANTIZED_NAMES = ("position_embd.weight", "token_types.weight")
_NEVER_QUANTIZED_IN = {
    "glm5-next": (
        "hc_",
        "indexer.attn_q_b",
        "indexer.attn_k",
        "indexer.proj",
        "indexer_compressor_gate",
        "indexer_compressor_ape",
        *(f"ssm_{part}.weight" for part in ("f_a", "f_b", "g_a", "g_b", "beta")),
        "attn_kv_a_mqa.weight",
        "attn_k_b.weight",
        "attn_v_b.weight",
    ),
}

_ALWAYS_F32 = re.compile(
    r"position_embd\.weight|token_types\.weight|[va]\.position_embd\.weight"
    r"|posnet\.\d+\.norm[12]\.weight"
    r"|blk\.\d+\.(ffn_gate_inp|ffn_gate_inp_shexp|ssm_conv1d(_[qkv])?|shortconv\.conv|indexer\.proj"
    r"|altup_correct_coef|altup_predict_coef"
    r"|time_mix_(first|w1|w2|decay_w1|decay_w2|lerp_fused))\.weight"
)
_ALWAYS_F32_IN = {
    "glm5-next": re.compile(r"^(blk\.|output_hc).*(hc_attn_|hc_ffn_|indexer_compressor_|ssm_a|ssm_dt|exp_probs_b)"),
    "hy_v4": re.compile(r"(hc_attn_fn|hc_ffn_fn|output_hc_fn)\.weight$"),
    "minimax-m3": re.compile(r"\.indexer\."),
}
_QUANTIZES_ITS_ROUTER = ("dbrx",)
"""Architectures whose converter asks for quantization of every matrix, so that no name makes it F32."""

_AT_LEAST_Q8_0_IN = {"glm5-next": ("attn_q_a", "attn_q_b", "nextn.eh_proj")}


def may_be_quantized(name: str, shape: tuple[int, ...], architecture: str) -> bool:
    """Tell whether llama-quantize would quantize a tensor of this name and shape (row length last)."""
    if ggml_dimensions(shape) < 2 or not name.endswith("weight") or name in _NEVER_QUANTIZED_NAMES:
        return False
    special = _NEVER_QUANTIZED_IN.get(architecture, ())
    return _NEVER_QUANTIZED.search(name) is None and not any(part in name for part in special)


def is_always_f32(name: str, shape: tuple[int, ...], architecture: str) -> bool:
    """Tell whether a converted file holds this tensor in F32, even where all others are 16-bit."""
    if len(shape) <= 1 or name.endswith("_norm.weight"):
        return True
    if architecture in _QUANTIZES_ITS_ROUTER:
        return False
    special = _ALWAYS_F32_IN.get(architecture)
    if special is not None and special.search(name):
        return True
    return not name.endswith(".weight") or _ALWAYS_F32.fullmatch(name) is not None


def needs_q8_0(name: str, architecture: str) -> bool:
    """Tell whether llama.cpp refuses to store this tensor in fewer bits than Q8_0."""
    return any(part in name for part in _AT_LEAST_Q8_0_IN.get(architecture, ()))


def ggml_dimensions(shape: tuple[int, ...]) -> int:
    """Return the number of axes as ggml counts them: leading ones do not exist."""
    leading_ones = next((axis for axis, length in enumerate(shape) if length != 1), len(shape) - 1)
    return len(shape) - leading_ones
