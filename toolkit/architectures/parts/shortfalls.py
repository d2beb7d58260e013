"""What a config asks of attention and llama.cpp does not do: the file runs, but not as its model would in transformers."""

from collections.abc import Collection, Iterator

from toolkit.checkpoint.model_config import ModelConfig


def shortfalls(config: ModelConfig, written: Collection[str]) -> tuple[str, ...]:
    """Return a line for each such thing, given the metadata keys that the file will have."""
    return (*_dual_chunks(config), *_lost_window(config, written))


def _dual_chunks(config: ModelConfig) -> Iterator[str]:
    chunks = config.get("dual_chunk_attention_config")
    if chunks:
        original = chunks.get("original_max_position_embeddings") if isinstance(chunks, dict) else None
        yield (
            f"beyond {original or 'its original number of'} tokens the model relies on dual chunk attention "
            "(dual_chunk_attention_config), which llama.cpp does not have; expect worse answers there"
        )


def _lost_window(config: ModelConfig, written: Collection[str]) -> Iterator[str]:
    # Where a class alone brings a window, its architecture writes it or has it built in.
    window = config.values.get("sliding_window")
    if not isinstance(window, int) or not 0 < window < config.integer("max_position_embeddings"):
        return
    if any("sliding_window" in key for key in written) or not _has_windowed_layer(config):
        return
    yield (
        f"config.json gives layers a sliding window of {window} tokens; for this architecture llama.cpp attends to "
        "everything, so texts longer than that are continued differently than by transformers"
    )


def _has_windowed_layer(config: ModelConfig) -> bool:
    types = config.text_list("layer_types", [])
    if types:
        return "sliding_attention" in types
    if "use_sliding_window" in config.values or "max_window_layers" in config.values:
        # Qwen's classes use no window unless told so, and then from a layer on.
        first, n_layer = config.get("max_window_layers", 28), config.integer("num_hidden_layers")
        return config.flag("use_sliding_window", False) and not (isinstance(first, int) and first >= n_layer)
    return True
