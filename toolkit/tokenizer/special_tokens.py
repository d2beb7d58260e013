"""The special roles of tokens: their ids, and which of them are added to a text.

Source: SpecialVocab in llama.cpp's gguf/vocab.py. An id comes from tokenizer_config.json through the added tokens, then
from config.json. Of the post_processor of tokenizer.json, which puts BOS, EOS or a separator around a text, only simple
templates are understood: the first and the last element of one text, and what is between two.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from toolkit.tokenizer.files import (
    ROLES,
    AddedToken,
    TokenizerFiles,
    decoder_added_tokens,
    normalizer_steps,
    role_texts,
    tokenizer_json_added_tokens,
)
from toolkit.tokenizer.vocabulary import Vocabulary

Step = Mapping[str, Any]
"""of a post_processor"""
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


@dataclass
class Roles:
    """Which text plays which role, and which roles are added to a text; filled in file by file."""

    texts: dict[str, str]
    declared: bool
    """whether there is a tokenizer_config.json; without one the template itself says which token is BOS or EOS"""
    names: list[str] = field(default_factory=lambda: list(ROLES))
    adds: dict[str, bool] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def plays(self, text: str | None, *names: str) -> bool:
        """Tell whether a text plays one of the named roles."""
        return text is not None and text in [self.texts.get(name) for name in names]


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


def apply_post_processor(roles: Roles, post_processor: Any) -> None:
    """Fill in `roles` from the post_processor of tokenizer.json."""
    if not isinstance(post_processor, dict):
        return
    _share_roles(roles)
    steps = post_processor.get("processors")
    for step in steps if isinstance(steps, list) else [post_processor]:
        kind = step.get("type") if isinstance(step, dict) else None
        if kind == "ByteLevel":
            roles.adds.setdefault("bos", False)
            roles.adds.setdefault("eos", False)
        elif kind == "RobertaProcessing":
            _apply_roberta(roles, step)
        elif kind == "TemplateProcessing":
            _apply_template(roles, _elements(step, "single"), _elements(step, "pair"))


def _share_roles(roles: Roles) -> None:
    for role, other in (("bos", "cls"), ("eos", "sep")):
        if role not in roles.texts and other in roles.texts:
            roles.texts[role] = roles.texts[other]


def _apply_roberta(roles: Roles, step: Step) -> None:
    roles.adds |= {"bos": True, "eos": True, "sep": True}
    for role in ("cls", "sep"):
        named = step.get(role)
        if isinstance(named, list) and named and isinstance(named[0], str):
            roles.texts.setdefault(role, named[0])


def _apply_template(roles: Roles, single: list[Step], pair: list[Step]) -> None:
    first = _special(single[0]) if len(single) > 1 else None
    last = _special(single[-1]) if len(single) > 1 else None
    if first:
        _apply_first(roles, first)
    if last:
        _apply_last(roles, last)
    _apply_pair(roles, _between(pair, first, last), last)


def _apply_first(roles: Roles, first: str) -> None:
    if not roles.declared:
        roles.texts["bos"] = first
    elif not roles.plays(first, "bos", "cls"):
        roles.texts.setdefault("bos", first)
        roles.texts.setdefault("cls", first)
    roles.adds["bos"] = roles.plays(first, "bos", "cls")
    if not roles.adds["bos"]:
        roles.warnings.append(f"tokenizer.json puts {first!r} before every text, which is neither BOS nor CLS")


def _apply_last(roles: Roles, last: str) -> None:
    if roles.declared and not roles.plays(last, "eos"):
        _demote_eos(roles, last)
    roles.texts["eos"] = last
    roles.adds["eos"] = True


def _demote_eos(roles: Roles, last: str) -> None:
    """Keep the EOS of tokenizer_config.json as end of turn or of message when the template ends with another token."""
    former = roles.texts.get("eos")
    role = next((role for role in ("eot", "eom") if role not in roles.names), None)
    if role is None:
        roles.warnings.append(f"tokenizer.json ends every text with {last!r}, which replaces the EOS token {former!r}")
        return
    roles.names.append(role)
    if former:
        roles.texts[role] = former


def _between(pair: list[Step], first: str | None, last: str | None) -> list[Step]:
    """Return what a pair's template has between its two texts, or nothing where it is not that simple."""
    start = 1 if pair and first and _special(pair[0]) == first else 0
    stop = len(pair) - 1 if pair and last and _special(pair[-1]) == last else len(pair)
    inner = pair[start:stop]
    if not inner or (_sequence(inner[0]), _sequence(inner[-1])) != ("A", "B"):
        return []
    return inner[1:-1]


def _apply_pair(roles: Roles, between: list[Step], last: str | None) -> None:
    if not between:
        return
    adds = roles.plays(_special(between[0]), "sep", "eos") and not last
    if len(between) == 2:
        adds = adds or roles.plays(_special(between[1]), "sep", "eos")
    roles.adds["sep"] = adds
    if adds and "eos" in roles.texts:
        roles.texts.setdefault("sep", roles.texts["eos"])


def _elements(step: Step, key: str) -> list[Step]:
    elements = step.get(key)
    return [element for element in elements if isinstance(element, dict)] if isinstance(elements, list) else []


def _special(element: Step) -> str | None:
    entry = element.get("SpecialToken")
    text = entry.get("id") if isinstance(entry, dict) else None
    return text if isinstance(text, str) else None


def _sequence(element: Step) -> str | None:
    entry = element.get("Sequence")
    return entry.get("id") if isinstance(entry, dict) else None
