"""Read tiktoken files, whose special tokens stand in the Python code of their families: Qwen 1 and Kimi."""

from toolkit.tokenizer.byte_level_bpe import spelled
from toolkit.tokenizer.files import TokenizerFiles, decoder_added_tokens
from toolkit.tokenizer.ranks import last_merges, read_ranks
from toolkit.tokenizer.vocabulary import Token, TokenType, Vocabulary, padded, too_few_rows

QWEN_FILE, KIMI_FILE = "qwen.tiktoken", "tiktoken.model"

_QWEN_END = "<|endoftext|>"
_QWEN_SPECIAL = (_QWEN_END, "<|im_start|>", "<|im_end|>", *(f"<|extra_{index}|>" for index in range(205)))
"""What Qwen's tokenization_qwen.py puts behind the tokens of the file."""
_KIMI_RESERVED = 258
"""How many ids Kimi's tokenization_kimi.py puts there; tokenizer_config.json names some of them."""


def read_qwen_tiktoken(files: TokenizerFiles, n_rows: int) -> Vocabulary | None:
    """Return the vocabulary of qwen.tiktoken, or None if there is no such file.

    Source: TextModel._set_vocab_qwen in llama.cpp's conversion/base.py.

    Raises TokenizerError if the file is malformed.
    """
    if not files.path(QWEN_FILE).is_file():
        return None
    ranks = read_ranks(files.path(QWEN_FILE))
    special = dict(enumerate(_QWEN_SPECIAL, start=len(ranks)))
    end = len(ranks)
    roles = {"bos": end, "eos": end, "unk": end}
    return _vocabulary(ranks, special, n_rows, "qwen2", roles)


def read_kimi_tiktoken(files: TokenizerFiles, n_rows: int) -> Vocabulary | None:
    """Return the vocabulary of tiktoken.model, or None if there is no such file.

    Source: DeepseekV2Model.set_vocab in llama.cpp's conversion/deepseek.py.

    Raises TokenizerError if a file is malformed.
    """
    if not files.path(KIMI_FILE).is_file():
        return None
    ranks = read_ranks(files.path(KIMI_FILE))
    special = {index: f"<|reserved_token_{index}|>" for index in range(len(ranks), len(ranks) + _KIMI_RESERVED)}
    special |= {token.id: token.text for token in decoder_added_tokens(files)}
    return _vocabulary(ranks, special, n_rows, "kimi-k2", {})


def _vocabulary(
    ranks: dict[bytes, int], special: dict[int, str], n_rows: int, pre: str, roles: dict[str, int]
) -> Vocabulary:
    last = max(ranks, key=ranks.__getitem__)
    if len(ranks) > n_rows:
        raise too_few_rows(len(ranks) - 1, spelled(last), n_rows)
    tokens = {rank: Token(spelled(token), TokenType.NORMAL) for token, rank in ranks.items()}
    tokens |= {index: Token(text, TokenType.CONTROL) for index, text in special.items()}
    return Vocabulary(
        "gpt2", pre, tuple(padded(tokens, n_rows)), scored=False, merges=tuple(last_merges(ranks)), role_ids=roles
    )
