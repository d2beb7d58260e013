"""Read profiles from TOML files, and refuse what is not understood with file and line."""

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import toolkit
from toolkit.errors import ProfileError
from toolkit.gguf.ggml_types import FILE_TYPES, TensorType
from toolkit.name_patterns import NamePattern
from toolkit.pattern_syntax import PatternError
from toolkit.quant_profile.profile import LAYER_SETS, MODEL_SIZES, QuantProfile, Rule
from toolkit.quant_profile.roles import ROLES
from toolkit.quant_profile.weight_types import weight_type

_MAX_BYTES = 1 << 20
_REQUIRED = ("name", "file_type", "default")


def profiles_folder() -> Path:
    """Return the folder of the profiles that come with the toolkit: in the package, or at the top of a checkout."""
    package = Path(toolkit.__file__).parent
    installed = package / "quant_profiles"
    return installed if installed.is_dir() else package.parent / "quant_profiles"


def profile_names() -> list[str]:
    """Return the names of the profiles that come with the toolkit."""
    return sorted(path.stem.upper() for path in profiles_folder().glob("*.toml"))


def load_profile(name_or_path: str) -> QuantProfile:
    """Return a profile of the toolkit by its name in any case, or the one in a TOML file.

    Raises ProfileError if there is no such profile, or the file is not understood.
    """
    path = Path(name_or_path)
    if path.suffix.lower() == ".toml" or len(path.parts) > 1:
        return read_profile(path)
    names = profile_names()
    if name_or_path.upper() not in names:
        raise ProfileError(f"there is no profile {name_or_path!r}; {_nearest(name_or_path, names)}")
    return read_profile(profiles_folder() / f"{name_or_path.lower()}.toml")


def read_profile(path: Path) -> QuantProfile:
    """Return the profile in a TOML file.

    Raises ProfileError, with the line, if the file cannot be read or says something that is not understood.
    """
    text = _read_text(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{path}: not valid TOML: {error}") from error
    return _ProfileText(path, text).profile(document)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            stored = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ProfileError(f"{path}: the profile cannot be read ({error.strerror})") from error
    if len(stored) > _MAX_BYTES:
        raise ProfileError(f"{path}: larger than {_MAX_BYTES} bytes, so it is not a profile")
    try:
        return stored.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from error


class _ProfileText:
    """A profile file while it is checked; it knows in which line a key stands."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()

    def profile(self, document: dict[str, Any]) -> QuantProfile:
        rules = document.pop("rules", [])
        missing = [key for key in _REQUIRED if key not in document]
        if missing:
            raise ProfileError(f"{self._path}: {missing[0]!r} is missing; a profile has {', '.join(_REQUIRED)}")
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            raise self._error("rules", None, "expected [[rules]] tables")
        values = self._values(document, _PROFILE_KEYS, None)
        values["file_type_name"] = values.pop("file_type")
        return QuantProfile(rules=tuple(self._rule(rule, number) for number, rule in enumerate(rules)), **values)

    def _rule(self, rule: dict[str, Any], number: int) -> Rule:
        values = self._values(rule, _RULE_KEYS, number)
        if "type" not in values:
            raise self._error("", number, "the rule has no type")
        return Rule(**values, location=f"{self._path}, line {self._line('name', number)}")

    def _values(self, table: dict[str, Any], keys: Mapping[str, "_Reader"], rule: int | None) -> dict[str, Any]:
        values = {}
        for key, value in table.items():
            if key not in keys:
                raise self._error(key, rule, f"unknown key {key!r}; {_nearest(key, list(keys))}")
            try:
                values[key] = keys[key](value)
            except ProfileError as error:
                raise self._error(key, rule, f"{key}: {error}") from error
        return values

    def _error(self, key: str, rule: int | None, message: str) -> ProfileError:
        return ProfileError(f"{self._path}, line {self._line(key, rule)}: {message}")

    def _line(self, key: str, rule: int | None) -> int:
        """Return the number of the line where a key stands, within the given rule or before the first one."""
        headers = [i for i, line in enumerate(self._lines) if re.match(r"\s*\[\[\s*rules\s*\]\]", line)]
        start = 0 if rule is None or rule >= len(headers) else headers[rule]
        assignment = re.compile(rf"(.*[{{,\s])?[\"']?{re.escape(key)}[\"']?\s*=")
        matching = (i for i in range(start, len(self._lines)) if key and assignment.match(self._lines[i]))
        return next(matching, start) + 1


_Reader = Callable[[Any], Any]


def _nearest(word: str, known: list[str]) -> str:
    by_lower_case = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower_case, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(by_lower_case[name] for name in close)}?"
    return f"known: {', '.join(known)}"


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ProfileError(f"expected text in quotes, found {value!r}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ProfileError(f"expected true or false, found {value!r}")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ProfileError(f"expected a whole number of at least 1, found {value!r}")
    return value


def _type(value: Any) -> TensorType:
    return weight_type(_text(value))


def _pattern(value: Any) -> NamePattern:
    try:
        return NamePattern(_text(value), anywhere=True)
    except PatternError as error:
        raise ProfileError(f"{value!r} is not a regular expression ({error})") from error


def _blocks(value: Any) -> tuple[int, ...]:
    items = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in items):
        raise ProfileError(f"expected block numbers, for example [0, 1, 31], found {value!r}")
    return tuple(items)


def _texts(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not items:
        raise ProfileError("expected at least one")
    return tuple(_text(item) for item in items)


def _one_of(known: Mapping[str, object] | tuple[str, ...]) -> _Reader:
    def read(value: Any) -> str:
        if _text(value) not in known:
            raise ProfileError(f"{value!r} is unknown; {_nearest(value, list(known))}")
        return str(value)

    return read


def _roles(value: Any) -> tuple[str, ...]:
    read = _one_of(ROLES)
    return tuple(read(role) for role in _texts(value))


_PROFILE_KEYS: dict[str, _Reader] = {
    "name": _text,
    "file_type": _one_of(FILE_TYPES),
    "default": _type,
    "needs_imatrix": _flag,
    "quantize_all": _flag,
    "keep": _flag,
    "summary": _text,
}
_RULE_KEYS: dict[str, _Reader] = {
    "type": _type,
    "role": _roles,
    "name": _pattern,
    "blocks": _blocks,
    "layers": _one_of(LAYER_SETS),
    "tensors": _one_of(LAYER_SETS),
    "architecture": _texts,
    "architecture_not": _texts,
    "model_size": _one_of(MODEL_SIZES),
    "gqa_at_least": _count,
    "experts": _count,
    "experts_at_least": _count,
    "imatrix": _flag,
    "tied": _flag,
    "stacked": _flag,
    "row_length_not_multiple_of": _count,
}
