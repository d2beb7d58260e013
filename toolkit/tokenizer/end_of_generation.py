"""The texts at which llama.cpp stops by itself, whatever the metadata says: src/llama-vocab.cpp, special_eog_ids."""

END_TEXTS = frozenset(
    {
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
        "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<eos>",
        "<end_of_utterance>", "<turn|>", "<|tool_response>", "[e~[", "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>",
        "[PAD]", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
    }
)  # fmt: skip


def ends_generation(text: str) -> bool:
    """Tell whether llama.cpp treats a token as the end of generation because of its text."""
    return text in END_TEXTS
