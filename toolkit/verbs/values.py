"""What the values of a request's fields may be: checked where a verb begins, whoever made the request."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args, get_origin

from toolkit.errors import InputError


@dataclass(frozen=True)
class AtLeast:
    """The least that a number may be; it stands in the type of a field."""

    least: int


Positive = Annotated[int, AtLeast(1)]
NotNegative = Annotated[int, AtLeast(0)]
NotNegativeFloat = Annotated[float, AtLeast(0)]
Rate = Annotated[float, AtLeast(1)]


def check_values(request: Any) -> None:
    """Check every field of a request.

    Raises TypeError where one string or number is given for several: a string would be read letter by letter. Raises
    InputError for a number that is too small or NaN, and for a word that is not one of those that the field takes.
    """
    for field in fields(request):
        _check(field.name, field.type, getattr(request, field.name))


def _check(name: str, kind: Any, value: Any) -> None:
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(value, float) and math.isnan(value):
        raise InputError(f"{name} is not a number; give one")
    if origin in (Sequence, tuple):
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise TypeError(f"{name} takes several values; write {name}=[{value!r}]")
        for item in value:
            _check(name, arguments[0], item)
    elif origin is Literal:
        if value not in arguments:
            raise InputError(f"{name} {value!r} is not one of {', '.join(map(str, arguments))}")
    elif origin is Annotated:
        least = kind.__metadata__[0].least
        if not value >= least:
            raise InputError(f"{name} {value} is too small; give {least} or more")
    elif type(None) in arguments and value is not None and len(arguments) == 2:
        _check(name, next(each for each in arguments if each is not type(None)), value)
