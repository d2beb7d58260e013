"""The syntax of patterns for names: a regular expression becomes the states of an automaton that `name_patterns` runs.

Read are literals, classes, groups, alternatives, repetitions, anchors, and lookaheads (`(?=`, `(?!`) at the very beginning;
Python's other syntax is refused.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from toolkit.errors import InputError

MAX_PATTERN = 2000
"""characters; several times what names all projections of a model"""
MAX_STATES = 2000
"""what repetitions with a number, such as `{2,5}`, may multiply a pattern to"""
_MAX_DEPTH = 30

Test = Callable[[str], bool]


class PatternError(InputError):
    """A pattern is not a regular expression, or not one of the subset that is matched in linear time."""


@dataclass
class State:
    """A state of the automaton: it takes a character, or goes on to others without one where `place` allows it."""

    test: Test | None = None
    next: tuple[int, ...] = ()
    place: str = ""


Fragment = Callable[["Program", int], int]
"""adds the states of a part that go on to a state, and returns where they begin"""


@dataclass
class Program:
    """The states of an automaton; number 0 is where a pattern ends."""

    states: list[State] = field(default_factory=list)
    copies: int = 0

    def add(self, state: State) -> int:
        """Return the number of a new state."""
        if len(self.states) >= MAX_STATES:
            raise PatternError(f"it comes to more than {MAX_STATES} steps")
        self.states.append(state)
        return len(self.states) - 1

    def copied(self, part: Fragment, then: int) -> int:
        """Add one more of a part that is repeated, which may be of no states."""
        self.copies += 1
        if self.copies > MAX_STATES:
            raise PatternError(f"it comes to more than {MAX_STATES} steps")
        return part(self, then)


def is_word_character(character: str) -> bool:
    r"""Tell whether `\w` matches a character; of the empty text it is False."""
    return character.isalnum() or character == "_"


_CLASSES: dict[str, Test] = {"d": str.isdecimal, "w": is_word_character, "s": str.isspace}
_ANCHORS = {"b": "b", "B": "B", "A": "^", "Z": "$"}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_REPETITION = re.compile(r"\{(\d{0,4})(,?)(\d{0,4})\}")


class PatternSyntax:
    """A pattern as it is read, from left to right by recursive descent."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_PATTERN:
            raise PatternError(f"it is longer than {MAX_PATTERN} characters")
        self._text = text
        self._at = 0
        self._depth = 0

    def lookaheads(self) -> list[tuple[bool, str]]:
        """Read the lookaheads at the beginning: whether the rest must match, and the pattern."""
        result = []
        while match := re.compile(r"\^?\(\?([=!])").match(self._text, self._at):
            begin = match.end()
            self._at = begin
            self._alternatives()
            self._expect(")")
            result.append((match[1] == "=", self._text[begin : self._at - 1]))
        return result

    def rest(self) -> Fragment:
        """Read all that is not read yet."""
        fragment = self._alternatives()
        if self._at < len(self._text):
            raise PatternError("it has a ) too many")
        return fragment

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        character = self._next()
        if not character:
            raise PatternError("it ends too early")
        self._at += 1
        return character

    def _expect(self, character: str) -> None:
        if self._next() != character:
            raise PatternError(f"it lacks a {character}")
        self._at += 1

    def _alternatives(self) -> Fragment:
        ways = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            ways.append(self._sequence())
        return ways[0] if len(ways) == 1 else _either(ways)

    def _sequence(self) -> Fragment:
        parts = []
        while self._next() not in ("", "|", ")"):
            parts.append(self._repeated(self._single()))
        return _in_order(parts)

    def _repeated(self, part: Fragment) -> Fragment:
        bounds = self._bounds()
        if bounds is None:
            return part
        if self._next() == "?":
            self._at += 1  # a lazy repetition finds the same names
        if self._next() == "+" or self._bounds() is not None:
            raise PatternError("it repeats a repetition")
        return _repeat(part, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._next())
        if simple is not None:
            self._at += 1
            return simple
        match = _REPETITION.match(self._text, self._at)
        if match is None or not (match[1] or match[3]):
            return None  # a brace that stands for itself
        self._at = match.end()
        low = int(match[1] or 0)
        high = low if not match[2] else int(match[3]) if match[3] else None
        if high is not None and high < low:
            raise PatternError(f"{match[0]} ends before it begins")
        return low, high

    def _single(self) -> Fragment:
        character = self._take()
        if character == "(":
            return self._group()
        if character == "[":
            return _taking(self._set())
        if character in "^$":
            return _anchor(character)
        if character in "*+?":
            raise PatternError("there is nothing to repeat")
        if character == ".":
            return _taking(lambda character: character != "\n")
        return self._escaped() if character == "\\" else _taking(character.__eq__)

    def _group(self) -> Fragment:
        if self._next() == "?":
            match = re.compile(r"\?(?::|P<\w+>)").match(self._text, self._at)
            if match is None:
                raise PatternError(f"({self._text[self._at : self._at + 2]} is not matched in linear time")
            self._at = match.end()
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise PatternError(f"it is nested more than {_MAX_DEPTH} deep")
        fragment = self._alternatives()
        self._expect(")")
        self._depth -= 1
        return fragment

    def _escaped(self) -> Fragment:
        character = self._take()
        if character in _ANCHORS:
            return _anchor(_ANCHORS[character])
        return _taking(self._meaning(character))

    def _meaning(self, character: str) -> Test:
        """Return what an escaped character stands for."""
        if character.lower() in _CLASSES:
            test = _CLASSES[character.lower()]
            return test if character.islower() else lambda tested: not test(tested)
        if character in _CONTROLS:
            return _CONTROLS[character].__eq__
        if character.isalnum():
            raise PatternError(f"\\{character} is not matched in linear time")
        return character.__eq__

    def _set(self) -> Test:
        negated = self._next() == "^"
        self._at += negated
        tests = [self._member()]
        while self._next() != "]":
            tests.append(self._member())
        self._at += 1
        return lambda character: any(test(character) for test in tests) is not negated

    def _member(self) -> Test:
        first = self._take()
        if first == "\\":
            first = self._take()
            if first.isalnum() and first not in _CONTROLS:
                return self._meaning(first)
            first = _CONTROLS.get(first, first)
        if self._text[self._at : self._at + 1] != "-" or self._text[self._at + 1 : self._at + 2] in ("]", ""):
            return first.__eq__
        self._at += 1
        last = self._take()
        if last == "\\":
            last = self._take()
        if last < first:
            raise PatternError(f"the range {first}-{last} ends before it begins")
        return lambda character: first <= character <= last


def _taking(test: Test) -> Fragment:
    return lambda program, then: program.add(State(test, (then,)))


def _anchor(place: str) -> Fragment:
    return lambda program, then: program.add(State(None, (then,), place))


def _in_order(parts: list[Fragment]) -> Fragment:
    def made(program: Program, then: int) -> int:
        for part in reversed(parts):
            then = part(program, then)
        return then

    return made


def _either(ways: list[Fragment]) -> Fragment:
    return lambda program, then: program.add(State(None, tuple(way(program, then) for way in ways)))


def _repeat(part: Fragment, low: int, high: int | None) -> Fragment:
    def made(program: Program, then: int) -> int:
        if high is None:
            loop = program.add(State())
            program.states[loop].next = (part(program, loop), then)
            then = loop
        else:
            end = then
            for _ in range(high - low):
                then = program.add(State(None, (program.copied(part, then), end)))
        for _ in range(low):
            then = program.copied(part, then)
        return then

    return made
