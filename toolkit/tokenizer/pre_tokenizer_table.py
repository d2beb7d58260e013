# ruff: noqa: RUF001
"""How llama.cpp names the ways of splitting text before BPE: data only.

A way is written as its steps: the regexes of tokenizer.json in order, with the built-in steps spelled as below.
Sources: the regexes in llama.cpp's src/llama-vocab.cpp (it keeps the original of tokenizer.json beside its own form), and the
tokenizer.json files of the families named there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What a ByteLevel step splits by when it uses its own regex."""
DIGIT = r"\p{N}"
DIGITS = r"\p{N}+"
PUNCTUATION = "(runs of punctuation)"

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SLASH_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_LOWER_LAST = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_UPPER_FIRST = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"

CL100K = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}|{_TAIL}"
QWEN2 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}|{_TAIL}"
QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = rf"{_LOWER_LAST}{_CONTRACTIONS}?|{_UPPER_FIRST}{_CONTRACTIONS}?|\p{{N}}{{1,3}}|{_SLASH_TAIL}"
TEKKEN = rf"{_LOWER_LAST}|{_UPPER_FIRST}|\p{{N}}|{_SLASH_TAIL}"
SEED = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
EXAONE_MOE = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
BAILING = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
JAIS2 = (
    rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+"
    r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)"
    r"|\s{1,2}(?!\S)|\s{1}"
)
UFAKZEKA = rf"{_WORD}|\p{{N}}|{_TAIL}"
MINICPM5 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}+|{_TAIL}"
_CASED_LETTERS = (
    r"A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώ"
    r"ᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏"
    r"𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
"""The letters of scripts that have upper and lower case."""
DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?[{_CASED_LETTERS}]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    r"[一-龥ࠀ-一가-퟿]+",
)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", DIGIT)
_DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)


@dataclass(frozen=True)
class Names:
    """The names that llama.cpp has for one way of splitting; they differ in flags, so the model decides.

    `by_model_type` is keyed by the beginning of config.json's model_type, and the longest that fits counts;
    `composed` is the name where text is first normalised to NFC, `ignoring_merges` where whole words skip the merges.
    """

    default: str
    by_model_type: Mapping[str, str] = field(default_factory=dict)
    composed: str | None = None
    ignoring_merges: str | None = None


NAMES: dict[tuple[str, ...], Names] = {
    (CL100K,): Names(
        "dbrx",
        {
            "llama": "llama-bpe",
            "mistral": "llama-bpe",
            "mixtral": "llama-bpe",
            "smollm3": "llama-bpe",
            "arcee": "llama-bpe",
            "falcon_h1": "falcon-h1",
            "falcon3": "falcon3",
            "lfm2": "lfm2",
            "glm": "glm4",
            "chatglm": "chatglm-bpe",
        },
        ignoring_merges="llama-bpe",
    ),
    (QWEN2,): Names(
        "qwen2", {"stablelm": "stablelm2", "hunyuan": "hunyuan", "solar_open": "solar-open", "grok": "grok-2"}
    ),
    (QWEN35,): Names("qwen35"),
    (O200K,): Names("gpt-4o", {"llama4": "llama4", "minimax": "minimax-m2"}),
    (r"\d{1,3}(?=(?:\d{3})*\b)", O200K): Names("tiny_aya", {"cohere2_moe": "cohere2moe"}),
    (TEKKEN,): Names("tekken"),
    (SEED,): Names("seed-coder"),
    (EXAONE_MOE,): Names("exaone-moe"),
    (BAILING,): Names(
        "bailingmoe", {"bailing_moe_v2": "bailingmoe2", "bailing_moe_linear": "bailingmoe2", "llada": "llada-moe"}
    ),
    (BLOOM,): Names("bloom"),
    (BLOOM, DIGIT): Names("viking"),
    (JAIS2,): Names("jais-2"),
    (UFAKZEKA,): Names("ufakzeka"),
    (r"\p{N}{1,3}", MINICPM5): Names("minicpm5"),
    (GPT2,): Names(
        "gpt-2",
        {"mpt": "mpt", "exaone4": "exaone4", "jais": "jais", "roberta": "roberta-bpe", "modernbert": "modern-bert"},
        composed="olmo",
    ),
    (DIGIT, GPT2): Names(
        "starcoder",
        {
            "llama": "smollm",
            "granite": "refact",
            "gpt_refact": "refact",
            "cohere": "command-r",
            "exaone": "exaone",
            "codeshell": "codeshell",
        },
        composed="command-r",
    ),
    (PUNCTUATION, GPT2, DIGITS, "[0-9][0-9][0-9]"): Names("falcon"),
    (PUNCTUATION, GPT2, DIGIT, "[0-9][0-9][0-9]"): Names("falcon"),
    (*DEEPSEEK_LLM, DIGIT): Names("deepseek-llm"),
    (*DEEPSEEK_LLM, DIGITS): Names("deepseek-llm"),
    _DEEPSEEK_CODER: Names("deepseek-coder", {"deepseek": "deepseek-llm"}),
    _DEEPSEEK_V3: Names("deepseek-v3", {"hunyuan": "hunyuan-dense", "joyai": "joyai-llm"}),
}

CLASS_SPLITS: dict[str, str] = {"GPT2Tokenizer": GPT2, "Qwen2Tokenizer": QWEN2}
"""What the tokenizer classes split by whose vocabularies come as vocab.json and merges.txt."""

KNOWN_NAMES: tuple[str, ...] = (
    "a.x-4.0", "afmoe", "bailingmoe", "bailingmoe2", "bloom", "chameleon", "chatglm-bpe", "codeshell", "cohere2moe",
    "command-r", "dbrx", "deepseek-coder", "deepseek-llm", "deepseek-r1-qwen", "deepseek-v3", "default", "exaone",
    "exaone-moe", "exaone4", "f2llmv2", "falcon", "falcon-h1", "falcon3", "gemma4", "gigachat", "glm4", "glm5",
    "gpt-2", "gpt-4o", "gpt3-finnish", "granite-docling", "granite-embed-multi-311m", "granite-embed-multi-97m",
    "grok-2", "hunyuan", "hunyuan-dense", "hy_v4", "jais", "jais-2", "jina-de", "jina-es", "jina-v1-en",
    "jina-v2-code", "jina-v2-de", "jina-v2-es", "jina-v5-nano", "joyai-llm", "kanana2", "kimi-k2", "kormo",
    "laguna", "lfm2", "llada-moe", "llama-bpe", "llama-v3", "llama3", "llama4", "megrez", "mellum", "mellum2",
    "midm-2.0", "minerva-7b", "minicpm5", "minimax-m2", "modern-bert", "mpt", "olmo", "phi-2", "pixtral",
    "poro-chat", "qwen2", "qwen35", "refact", "roberta-bpe", "sarvam-moe", "seed-coder", "smaug-bpe", "smollm",
    "solar-open", "spark2_5", "stablelm2", "starcoder", "superbpe", "talkie", "tekken", "tiny_aya", "trillion",
    "ufakzeka", "viking", "whitespace", "youtu",
)  # fmt: skip
"""Every name that llama.cpp loads; `--pre` takes one of them."""
