"""The special roles of tokens: their ids, and which of them are added to a text.

Source: SpecialVocab in llama.cpp's gguf/vocab.py. An id comes from tokenizer_config.json through the added tokens, then
from config.json.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from toolkit.tokenizer.files import (
    AddedToken,
    TokenizerFiles,
    decoder_added_tokens,
    normalizer_steps,
    role_texts,
    tokenizer_json_added_tokens,
)
from toolkit.tokenizer.post_processor import Roles, apply_post_processor
from toolkit.tokenizer.vocabulary import Vocabulary

_ESSENTIAL = ("bos", "eos")
"""The roles that are also looked for where llama.cpp's converter does not look."""
_CONFIG = "tokenizer_config.json"


@dataclass(frozen=True)
class SpecialTokens:
    """Ids by role (`bos`, `eos`, …), and whether llama.cpp adds the token of a role to a text."""

    ids: dict[str, int]
    adds: dict[str, bool]
    lowercase: bool | None = None
    strip_accents: bool | None = None
    warnings: tuple[str, ...] = field(default=())


def read_special_tokens(files: TokenizerFiles, config: Mapping[str, Any], vocabulary: Vocabulary) -> SpecialTokens:
    """Return the special tokens of a vocabulary."""
    roles = Roles(role_texts(files), declared=files.tokenizer_config is not None)
    apply_post_processor(roles, (files.tokenizer_json or {}).get("post_processor"))
    _read_flags(roles, files)
    ids = _ids(roles, files, config, vocabulary)
    normalizers = list(normalizer_steps((files.tokenizer_json or {}).get("normalizer")))
    return SpecialTokens(
        ids=ids,
        adds=roles.adds,
        lowercase=_flag(normalizers, "Lowercase", "lowercase"),
        strip_accents=_flag(normalizers, "StripAccents", "strip_accents"),
        warnings=(*roles.warnings, *_other_ends(ids, config, files, vocabulary)),
    )


def with_vocabulary_ids(special: SpecialTokens, vocabulary: Vocabulary) -> SpecialTokens:
    """Return the special tokens with the ids that only the vocabulary gives."""
    return replace(special, ids=dict(vocabulary.role_ids) | special.ids)


def _read_flags(roles: Roles, files: TokenizerFiles) -> None:
    for role in roles.names:
        declared = files.settings.get(f"add_{role}_token")
        if not isinstance(declared, bool):
            continue
        if roles.adds.setdefault(role, declared) != declared:
            roles.warnings.append(
                f"tokenizer_config.json says add_{role}_token {str(declared).lower()} but the post-processor of "
                f"tokenizer.json does the opposite; the post-processor is followed"
            )


def _ids(roles: Roles, files: TokenizerFiles, config: Mapping[str, Any], vocabulary: Vocabulary) -> dict[str, int]:
    n_tokens = len(vocabulary.tokens)
    ids: dict[str, int] = {}
    for role in roles.names:
        text = roles.texts.get(role) if roles.declared else None
        candidates = _declared(role, text, files) + _configured(role, files, config)
        if role in _ESSENTIAL and not candidates:
            candidates = _id_of_piece(text, vocabulary)
        fitting = [index for index, _ in candidates if 0 <= index < n_tokens]
        if fitting:
            ids[role] = fitting[0]
        elif candidates:
            index, origin = candidates[0]
            roles.warnings.append(f"{origin} gives {role} the id {index}, but there are {n_tokens} tokens; ignored")
    return ids


def _declared(role: str, text: str | None, files: TokenizerFiles) -> list[tuple[int, str]]:
    """Return the id of a role's text among the added tokens, with the file that names the role."""
    ids = _ids_of(text, tokenizer_json_added_tokens(files))
    if role in _ESSENTIAL and not ids and text is not None:
        ids = _ids_of(text, decoder_added_tokens(files) if files.tokenizer_json is None else ())
        ids = ids or [(index, _CONFIG) for added, index in files.added_tokens.items() if added == text]
    return ids


def _configured(role: str, files: TokenizerFiles, config: Mapping[str, Any]) -> list[tuple[int, str]]:
    key = f"{role}_token_id"
    ids = [(index, "config.json") for index in listed_ids(config.get(key))[:1]]
    if role in _ESSENTIAL:
        ids += [(index, "generation_config.json") for index in listed_ids(files.generation_config.get(key))[:1]]
    return ids


def listed_ids(value: Any) -> list[int]:
    """Return the ids of a value that is one id, a list of ids, or nothing."""
    values = value if isinstance(value, list) else [value]
    return [index for index in values if isinstance(index, int) and not isinstance(index, bool)]


def _ids_of(text: str | None, added: Iterable[AddedToken]) -> list[tuple[int, str]]:
    return [(token.id, _CONFIG) for token in added if token.text == text][:1]


def _id_of_piece(text: str | None, vocabulary: Vocabulary) -> list[tuple[int, str]]:
    return [(i, _CONFIG) for i, token in enumerate(vocabulary.tokens) if token.text == text][:1]


def _other_ends(
    ids: Mapping[str, int], config: Mapping[str, Any], files: TokenizerFiles, vocabulary: Vocabulary
) -> list[str]:
    """Return a warning if files name ends of generation that llama.cpp will not stop at."""
    named = dict.fromkeys(
        index for source in (config, files.generation_config) for index in listed_ids(source.get("eos_token_id"))
    )
    written = {ids.get(role) for role in ("eos", "eot", "eom")}
    left = [
        f"{index} ({vocabulary.tokens[index].text!r})"
        for index in named
        if index not in written
        and 0 <= index < len(vocabulary.tokens)
        and not ends_generation(vocabulary.tokens[index].text)
    ]
    if not left:
        return []
    eos = ids.get("eos")
    return [f"eos_token_id is {eos}; llama.cpp will not stop at the other end tokens that are named: {', '.join(left)}"]


def _flag(normalizers: Iterable[Mapping[str, Any]], kind: str, key: str) -> bool | None:
    flag: bool | None = None
    for normalizer in normalizers:
        if normalizer.get("type") == kind:
            flag = True
        elif normalizer.get("type") == "BertNormalizer" and isinstance(normalizer.get(key), bool):
            flag = normalizer[key]
    return flag


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
