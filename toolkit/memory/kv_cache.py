"""What a model's metadata says of its KV cache: bytes per token and layer, windows, recurrent states.

An outline for people who look at a file; whoever plans memory asks llama.cpp itself. The rules are llama.cpp's
(src/llama-hparams.cpp, `llama_model::create_memory` and src/models/*.cpp): bytes are summed over layers, because heads,
widths and windows differ between them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from toolkit.gguf.format import ModelKeys

MAX_LAYERS = 1024
"""More than any model has; a damaged count beyond it is not believed."""
_VALUE_BYTES = 2
_STATE_BYTES = 4
# By the names of llama.cpp's graphs, which GGUF files bring along that no family here has made.
_WITHOUT_CACHE = {
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert",
    "gemma-embedding", "wavtokenizer-dec", "dream", "llada", "llada-moe", "rnd1",
}  # fmt: skip
_RECURRENT_ONLY = {"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"}
_FULL_ATTENTION_INTERVAL = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4}
_STATE_KEYS = ("ssm.inner_size", "wkv.head_size", "shortconv.l_cache", "kda.head_dim")


@dataclass(frozen=True)
class WindowPattern:
    """Every `period`th layer sees all tokens: the first of a period, or the last."""

    period: int
    full_first: bool = False
    window: int | None = None
    """tokens, where the file need not say"""

    def layers(self, n_layer: int) -> set[int]:
        """Return the layers that see only a window."""
        full = 0 if self.full_first else self.period - 1
        return {layer for layer in range(n_layer) if layer % self.period != full}


_WINDOWS = {
    "afmoe": WindowPattern(4), "cohere2": WindowPattern(4), "cohere2moe": WindowPattern(4, full_first=True),
    "exaone-moe": WindowPattern(4), "exaone4": WindowPattern(4), "gemma2": WindowPattern(2, window=4096),
    "gemma3": WindowPattern(6), "gemma3n": WindowPattern(5), "gpt-oss": WindowPattern(2),
    "llama4": WindowPattern(4, window=8192), "mellum": WindowPattern(4), "olmo2": WindowPattern(4),
    "plamo3": WindowPattern(8), "smallthinker": WindowPattern(4, full_first=True),
}  # fmt: skip


@dataclass(frozen=True)
class KvCache:
    """The cache of one sequence; keys and values at 16 bits, states at 32, as llama.cpp does by default."""

    bytes_per_token: int
    """of the layers that keep every token"""
    full_layers: int
    window_bytes_per_token: int
    """of the layers that keep a window"""
    window_layers: int
    window: int
    """tokens; 0 without such layers"""
    recurrent_bytes: int
    """of all states, whatever the context"""
    recurrent_layers: int
    shared_layers: int
    """use the cache of an earlier layer"""
    latent: bool
    """one compressed key in place of keys and values (MLA)"""


def kv_cache(keys: ModelKeys) -> KvCache | None:
    """Return what can be told of the cache, None where the metadata does not say enough."""
    n_layer, heads = keys.count("block_count"), _heads(keys)
    if heads is None:
        return None
    layers, states = _used_layers(keys), layer_states(keys)
    heads_kv, recurrent = keys.per_layer("attention.head_count_kv", n_layer) or heads, set(states)
    attention = _attention_layers(keys, layers, heads_kv, recurrent)
    own = attention.intersection(range(_first_shared_layer(keys, n_layer)))
    window, windowed = _windows(keys, n_layer)
    return KvCache(
        bytes_per_token=_token_bytes(keys, heads, heads_kv, own - windowed, suffix=""),
        full_layers=len(own - windowed),
        window_bytes_per_token=_token_bytes(keys, heads, heads_kv, own & windowed, suffix="_swa"),
        window_layers=len(own & windowed),
        window=window if own & windowed else 0,
        recurrent_bytes=sum(states.values()),
        recurrent_layers=len(recurrent),
        shared_layers=len(attention - own),
        latent=_is_latent(keys),
    )


def layer_states(keys: ModelKeys) -> dict[int, int]:
    """Return the bytes of one sequence's state in every layer that has one; nothing where the metadata does not say."""
    heads = _heads(keys)
    if heads is None:
        return {}
    heads_kv = keys.per_layer("attention.head_count_kv", len(heads)) or heads
    recurrent = _recurrent_layers(keys, heads_kv).intersection(_used_layers(keys))
    return dict.fromkeys(sorted(recurrent), _state_values(keys, heads[0]) * _STATE_BYTES)


def _heads(keys: ModelKeys) -> tuple[int, ...] | None:
    # First of all, because a damaged count would make arrays of any length.
    n_layer = keys.count("block_count")
    return keys.per_layer("attention.head_count", n_layer) if 1 <= n_layer <= MAX_LAYERS else None


def _used_layers(keys: ModelKeys) -> range:
    """Return the layers without those that only predict further tokens."""
    n_layer = keys.count("block_count")
    return range(n_layer - min(keys.count("nextn_predict_layers"), n_layer - 1))


def _attention_layers(keys: ModelKeys, layers: range, heads_kv: Sequence[int], recurrent: set[int]) -> set[int]:
    if keys.architecture in _WITHOUT_CACHE:
        return set()
    # Falcon-H1 alone runs attention and a recurrent state side by side.
    without = set() if keys.architecture == "falcon-h1" else recurrent
    return {layer for layer in layers if heads_kv[layer] > 0} - without


def _recurrent_layers(keys: ModelKeys, heads_kv: Sequence[int]) -> set[int]:
    n_layer = len(heads_kv)
    if not any(keys.count(key) for key in _STATE_KEYS):
        return set()
    if keys.architecture in _RECURRENT_ONLY or keys.architecture == "falcon-h1":
        return set(range(n_layer))
    flags = keys.per_layer("attention.recurrent_layers", n_layer)
    if flags is not None:
        return {layer for layer, flag in enumerate(flags) if flag}
    interval = keys.count("full_attention_interval", _FULL_ATTENTION_INTERVAL.get(keys.architecture, 0))
    if interval:
        return {layer for layer in range(n_layer) if (layer + 1) % interval}
    # Nemotron-H has layers with neither: only a feed-forward part.
    widths = keys.per_layer("feed_forward_length", n_layer) if keys.architecture.startswith("nemotron_h") else None
    return {layer for layer in range(n_layer) if heads_kv[layer] == 0 and not (widths and widths[layer])}


def _first_shared_layer(keys: ModelKeys, n_layer: int) -> int:
    """Return the first layer without a cache of its own (llama.cpp has a fixed number for Gemma 3n)."""
    if keys.architecture == "gemma3n":
        return 20
    return n_layer - keys.count("attention.shared_kv_layers") if keys.architecture == "gemma4" else n_layer


def _windows(keys: ModelKeys, n_layer: int) -> tuple[int, set[int]]:
    """Return the length of the window and the layers that have it."""
    pattern = _WINDOWS.get(keys.architecture)
    window = keys.count("attention.sliding_window", (pattern and pattern.window) or 0)
    flags = keys.each("attention.sliding_window_pattern")
    if not window:
        return 0, set()
    if flags is not None:
        return window, {layer for layer, flag in enumerate(flags[:n_layer]) if flag}
    if pattern is None:
        return 0, set()
    period = keys.count("attention.sliding_window_pattern", pattern.period) or pattern.period
    return window, WindowPattern(period, pattern.full_first).layers(n_layer)


def _token_bytes(
    keys: ModelKeys, heads: Sequence[int], heads_kv: Sequence[int], layers: Iterable[int], *, suffix: str
) -> int:
    """Return the bytes that one token adds in these layers; a latent cache has no values."""
    width = keys.count("embedding_length") // heads[0] if heads[0] > 0 else 0
    both = 0
    for key in ("attention.key_length",) if _is_latent(keys) else ("attention.key_length", "attention.value_length"):
        both += keys.count(f"{key}{suffix}", keys.count(key, width))
    return sum(heads_kv[layer] for layer in layers) * both * _VALUE_BYTES


def _is_latent(keys: ModelKeys) -> bool:
    return bool(keys.count("attention.key_length_mla") and keys.count("attention.value_length_mla"))


def _state_values(keys: ModelKeys, n_head: int) -> int:
    """Return the values of a recurrent layer's state (`n_embd_r` + `n_embd_s` of llama-hparams.cpp)."""
    width, kernel = keys.count("embedding_length"), keys.count("ssm.conv_kernel")
    if keys.count("wkv.head_size"):
        return width * (keys.count("token_shift_count", 2) + keys.count("wkv.head_size"))
    if keys.count("shortconv.l_cache"):
        return width * (keys.count("shortconv.l_cache") - 1)
    head = keys.count("kda.head_dim")
    if head:
        return n_head * head * (3 * max(kernel - 1, 0) + head)
    inner, state = keys.count("ssm.inner_size"), keys.count("ssm.state_size")
    return max(kernel - 1, 0) * (inner + 2 * keys.count("ssm.group_count") * state) + state * inner
