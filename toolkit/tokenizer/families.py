"""What llama.cpp's converter does to the vocabularies of single families: the set_vocab methods of its conversion/.

The tables hold data; the keys are class names as `architectures` in config.json has them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from toolkit.gguf.format import Metadata, ValueType, array, boolean, uint32
from toolkit.tokenizer.files import TokenizerFiles, tokenizer_json_added_tokens
from toolkit.tokenizer.special_tokens import SpecialTokens, listed_ids
from toolkit.tokenizer.vocabulary import Vocabulary

ADD_SPACE_PREFIX = "tokenizer.ggml.add_space_prefix"
ADD_BOS = "tokenizer.ggml.add_bos_token"

_CODE_LLAMA_TOKENS = 32016
_CODE_LLAMA_EOT = 32010
_GRANITE_TOKENS = 49152


@dataclass(frozen=True)
class Family:
    """What a family adds to its vocabulary.

    `texts` and `ids` give roles that no file gives, `adds` what is added to a text where no file says; `replaced` are the
    tokens that its chat models have in a role whatever the files say; `space_prefix` is what its sentencepiece
    vocabularies do, or where that is written.
    """

    texts: Mapping[str, str] | None = None
    ids: Mapping[str, int] | None = None
    adds: Mapping[str, bool] | None = None
    replaced: Mapping[str, str] | None = None
    space_prefix: bool | str | None = None
    overrides: Metadata | None = None
    suppresses: bool = False
    """whether the tokens that generation_config.json wants never chosen are written"""
    own_ends: bool = False
    """whether eod_token_id of config.json is the EOS, and the first of several ends in generation_config.json the EOT"""


_CONFIG = "tokenizer_config.json"
_MODEL = "tokenizer.model"
_GLM_TEXTS = {"eos": "<|endoftext|>", "eot": "<|user|>", "unk": "<|endoftext|>"}
_GLM4 = Family(texts=_GLM_TEXTS | {"bos": "<|endoftext|>"})
_GLM_MOE = Family(texts={"bos": "[gMASK]", "eot": "<|user|>", "unk": "<|endoftext|>", "eom": "<|observation|>"})
_ERNIE = Family(space_prefix=_CONFIG)
_GEMMA = Family(space_prefix=False)
_MODERN_BERT = Family(adds={"bos": True, "eos": True, "sep": True})

FAMILIES: dict[str, Family] = {
    "GemmaForCausalLM": Family(ids={"eot": 107}, space_prefix=False),
    "Gemma2ForCausalLM": _GEMMA,
    "Gemma3ForCausalLM": _GEMMA,
    "Gemma3ForConditionalGeneration": _GEMMA,
    "Gemma3TextModel": _GEMMA,
    "Gemma3nForCausalLM": _GEMMA,
    "Gemma3nForConditionalGeneration": _GEMMA,
    "Gemma4ForCausalLM": Family(space_prefix=False, overrides={ADD_BOS: boolean(True)}),
    "Gemma4ForConditionalGeneration": Family(space_prefix=False, overrides={ADD_BOS: boolean(True)}),
    "GlmForCausalLM": Family(texts=_GLM_TEXTS, overrides={ADD_BOS: boolean(False)}),
    "Gemma4UnifiedForConditionalGeneration": Family(
        space_prefix=False, overrides={ADD_BOS: boolean(True)}, suppresses=True
    ),
    "Glm4ForCausalLM": _GLM4,
    "Glm4vForConditionalGeneration": _GLM4,
    "GlmOcrForConditionalGeneration": _GLM4,
    "Glm4MoeForCausalLM": _GLM_MOE,
    "Glm4vMoeForConditionalGeneration": _GLM_MOE,
    "Qwen3OmniMoeForConditionalGeneration": Family(replaced={"bos": "<|im_end|>", "eos": "<|im_end|>"}),
    "Glm4MoeLiteForCausalLM": _GLM_MOE,
    "HunYuanDenseV1ForCausalLM": Family(own_ends=True),
    "HunYuanVLForConditionalGeneration": Family(own_ends=True),
    "NemotronForCausalLM": Family(
        overrides={"tokenizer.ggml.padding_token_id": uint32(0), "tokenizer.ggml.unknown_token_id": uint32(1)}
    ),
    "Ernie4_5ForCausalLM": _ERNIE,
    "Ernie4_5_MoeForCausalLM": _ERNIE,
    "PaddleOCRVLForConditionalGeneration": _ERNIE,
    "PanguEmbeddedForCausalLM": _ERNIE,
    "ModernBertModel": _MODERN_BERT,
    "ModernBertForMaskedLM": _MODERN_BERT,
    "ModernBertForSequenceClassification": _MODERN_BERT,
    "InternLM3ForCausalLM": Family(replaced={"eos": "<|im_end|>"}, space_prefix=_CONFIG),
    "InternLM2ForCausalLM": Family(replaced={"eos": "<|im_end|>"}, space_prefix=_MODEL),
}


def family_of(config: Mapping[str, Any]) -> Family:
    """Return what the family of a config adds; nothing for most."""
    names = config.get("architectures")
    family = FAMILIES.get(str(names[0]), Family()) if isinstance(names, list) and names else Family()
    end = config.get("eod_token_id")
    if not family.own_ends or not isinstance(end, int):
        return family
    return replace(family, overrides={"tokenizer.ggml.eos_token_id": uint32(end)})


def with_family_tokens(
    special: SpecialTokens, family: Family, files: TokenizerFiles, vocabulary: Vocabulary
) -> SpecialTokens:
    """Return the special tokens with the roles that the family fills where the files do not."""
    added = {token.text: token.id for token in tokenizer_json_added_tokens(files)}
    by_text = {role: added[text] for role, text in (family.texts or {}).items() if text in added}
    by_id = {role: index for role, index in (family.ids or {}).items() if index < len(vocabulary.tokens)}
    ids = by_text | by_id | special.ids
    for role, text in (family.replaced or {}).items():
        token_id = next((index for index, token in enumerate(vocabulary.tokens) if token.text == text), None)
        if token_id is not None:
            ids[role] = token_id
    return replace(special, ids=ids, adds=dict(family.adds or {}) | special.adds)


def family_metadata(family: Family, files: TokenizerFiles, vocabulary: Vocabulary) -> Metadata:
    """Return the keys that the family writes whatever the files say."""
    prefix: Any = family.space_prefix
    if prefix == _CONFIG:
        prefix = files.settings.get("add_prefix_space")
    elif prefix == _MODEL:
        prefix = vocabulary.adds_space_prefix
    written = {ADD_SPACE_PREFIX: boolean(prefix)} if prefix is not None and vocabulary.scored else {}
    suppressed = files.generation_config.get("suppress_tokens") if family.suppresses else None
    if suppressed:
        written["tokenizer.ggml.suppress_tokens"] = array(ValueType.INT32, suppressed)
    ends = listed_ids(files.generation_config.get("eos_token_id")) if family.own_ends else []
    if len(ends) > 1:
        written["tokenizer.ggml.eot_token_id"] = uint32(ends[0])
    return written | (family.overrides or {})


def llama_metadata(files: TokenizerFiles, config: Mapping[str, Any], n_tokens: int) -> Metadata:
    """Return the keys that every model of Llama's family writes (LlamaModel.set_vocab)."""
    metadata: Metadata = {}
    prefix = files.settings.get("add_prefix_space")
    if isinstance(prefix, bool):
        metadata[ADD_SPACE_PREFIX] = boolean(prefix)
    declared = config.get("vocab_size") or n_tokens
    if declared == _CODE_LLAMA_TOKENS:
        metadata["tokenizer.ggml.eot_token_id"] = uint32(_CODE_LLAMA_EOT)
    if declared == _GRANITE_TOKENS:
        metadata[ADD_BOS] = boolean(False)
    return metadata
