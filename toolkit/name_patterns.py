"""Regular expressions that files of strangers match with names of modules, in time that is linear in the name.

Python's `re` takes back what it tried, for some patterns longer than anyone waits. Here all ways through a pattern are
followed at once (Thompson's simulation), which needs a subset of its syntax: literals, classes, groups, alternatives,
repetitions, anchors, and what may or may not follow (`(?=`, `(?!`) at the very beginning. What is beyond is refused.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from toolkit.errors import InputError

MAX_PATTERN = 2000
"""characters; several times what names all projections of a model"""
MAX_PATTERNS = 4096
"""that a file should have: a pattern for every projection of a model with hundreds of blocks"""
MAX_STATES = 2000
"""what repetitions with a number, such as `{2,5}`, may multiply a pattern to"""
_MAX_DEPTH = 30
_MAX_KEPT = 4096
"""steps that a pattern remembers"""

Test = Callable[[str], bool]


class PatternError(InputError):
    """A pattern is no regular expression, or one beyond the subset that is matched in linear time."""


@dataclass
class _State:
    """A state of the automaton: it takes a character, or goes on to others without one where `place` allows it."""

    test: Test | None = None
    next: tuple[int, ...] = ()
    place: str = ""


_Fragment = Callable[["_Program", int], int]
"""adds the states of a part that go on to a state, and returns where they begin"""


@dataclass
class _Program:
    states: list[_State] = field(default_factory=list)
    copies: int = 0

    def add(self, state: _State) -> int:
        """Return the number of a new state."""
        if len(self.states) >= MAX_STATES:
            raise PatternError(f"it comes to more than {MAX_STATES} steps")
        self.states.append(state)
        return len(self.states) - 1

    def copied(self, part: _Fragment, then: int) -> int:
        """Add one more of a part that is repeated, which may be of no states."""
        self.copies += 1
        if self.copies > MAX_STATES:
            raise PatternError(f"it comes to more than {MAX_STATES} steps")
        return part(self, then)


_Kernel = frozenset[int]


class NamePattern:
    """A pattern, ready to be matched."""

    def __init__(self, text: str, *, anywhere: bool = False) -> None:
        """Read a pattern, which may be one for `found_in`.

        Raises PatternError if it is none, or one that cannot be matched so.
        """
        self.pattern = text
        parser = _Parser(text)
        self._ahead = parser.lookaheads()
        if self._ahead and anywhere:
            raise PatternError("(?= and (?! have no place in a pattern that may stand anywhere")
        self._program = _Program()
        accepting = self._program.add(_State())
        self._start = parser.whole()(self._program, accepting)
        self._steps: dict[tuple[_Kernel, str, str], tuple[bool, _Kernel]] = {}

    def matches_whole(self, name: str) -> bool:
        """Tell whether the pattern is all of a name, as `re.fullmatch` does."""
        return self._run(name, whole=True, anywhere=False)

    def matches_start(self, name: str) -> bool:
        """Tell whether a name begins with the pattern, as `re.match` does."""
        return self._run(name, whole=False, anywhere=False)

    def found_in(self, name: str) -> bool:
        """Tell whether the pattern, one that was made for this, stands anywhere in a name, as `re.search` does."""
        return self._run(name, whole=False, anywhere=True)

    def _run(self, name: str, *, whole: bool, anywhere: bool) -> bool:
        if any(pattern.matches_start(name) is not wanted for wanted, pattern in self._ahead):
            return False
        kernel, before = frozenset((self._start,)), ""
        for character in (*name, ""):
            accepted, kernel = self._step(kernel, before, character)
            if accepted and not (whole and character):
                return True
            if anywhere:
                kernel |= {self._start}
            elif not kernel:
                return False
            before = character
        return False

    def _step(self, kernel: _Kernel, before: str, character: str) -> tuple[bool, _Kernel]:
        """Return whether the pattern may end between two characters, and the states after the second."""
        places = _places(before, character)
        key = kernel, character, places
        if key not in self._steps:
            if len(self._steps) >= _MAX_KEPT:
                self._steps.clear()
            reached = self._reached(kernel, places)
            after = frozenset(
                target
                for index in reached
                if character and (test := self._program.states[index].test) is not None and test(character)
                for target in self._program.states[index].next
            )
            self._steps[key] = 0 in reached, after
        return self._steps[key]

    def _reached(self, kernel: Iterable[int], places: str) -> set[int]:
        reached: set[int] = set()
        waiting = list(kernel)
        while waiting:
            index = waiting.pop()
            if index in reached:
                continue
            reached.add(index)
            state = self._program.states[index]
            if state.test is None and (not state.place or state.place in places):
                waiting += state.next
        return reached


@lru_cache(maxsize=2 * MAX_PATTERNS)
def name_pattern(text: str) -> NamePattern:
    """Return a pattern, which is kept for the next time.

    Raises PatternError.
    """
    return NamePattern(text)


def _places(before: str, after: str) -> str:
    """Return the anchors that hold between two characters; before the first and after the last stands nothing."""
    boundary = "b" if _is_word(before) is not _is_word(after) else "B"
    return boundary + ("^" if not before else "") + ("$" if not after else "")


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


_CLASSES: dict[str, Test] = {"d": str.isdecimal, "w": _is_word, "s": str.isspace}
_ANCHORS = {"b": "b", "B": "B", "A": "^", "Z": "$"}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_REPETITION = re.compile(r"\{(\d{0,4})(,?)(\d{0,4})\}")


class _Parser:
    """A recursive descent over a pattern, in Python's syntax."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_PATTERN:
            raise PatternError(f"it is longer than {MAX_PATTERN} characters")
        self._text = text
        self._at = 0
        self._depth = 0

    def lookaheads(self) -> list[tuple[bool, NamePattern]]:
        """Read the conditions at the beginning: whether what follows must match, and what."""
        found = []
        while match := re.compile(r"\^?\(\?([=!])").match(self._text, self._at):
            begin = match.end()
            self._at = begin
            self._alternatives()
            self._expect(")")
            found.append((match[1] == "=", NamePattern(self._text[begin : self._at - 1])))
        return found

    def whole(self) -> _Fragment:
        """Read all the rest."""
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

    def _alternatives(self) -> _Fragment:
        ways = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            ways.append(self._sequence())
        return ways[0] if len(ways) == 1 else _either(ways)

    def _sequence(self) -> _Fragment:
        parts = []
        while self._next() not in ("", "|", ")"):
            parts.append(self._repeated(self._single()))
        return _in_order(parts)

    def _repeated(self, part: _Fragment) -> _Fragment:
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

    def _single(self) -> _Fragment:
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
            return _taking(lambda found: found != "\n")
        return self._escaped() if character == "\\" else _taking(character.__eq__)

    def _group(self) -> _Fragment:
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

    def _escaped(self) -> _Fragment:
        character = self._take()
        if character in _ANCHORS:
            return _anchor(_ANCHORS[character])
        return _taking(self._meaning(character))

    def _meaning(self, character: str) -> Test:
        """Return what an escaped character stands for."""
        if character.lower() in _CLASSES:
            test = _CLASSES[character.lower()]
            return test if character.islower() else lambda found: not test(found)
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
        return lambda found: any(test(found) for test in tests) is not negated

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
        return lambda found: first <= found <= last


def _taking(test: Test) -> _Fragment:
    return lambda program, then: program.add(_State(test, (then,)))


def _anchor(place: str) -> _Fragment:
    return lambda program, then: program.add(_State(None, (then,), place))


def _in_order(parts: list[_Fragment]) -> _Fragment:
    def made(program: _Program, then: int) -> int:
        for part in reversed(parts):
            then = part(program, then)
        return then

    return made


def _either(ways: list[_Fragment]) -> _Fragment:
    return lambda program, then: program.add(_State(None, tuple(way(program, then) for way in ways)))


def _repeat(part: _Fragment, low: int, high: int | None) -> _Fragment:
    def made(program: _Program, then: int) -> int:
        if high is None:
            loop = program.add(_State())
            program.states[loop].next = (part(program, loop), then)
            then = loop
        else:
            end = then
            for _ in range(high - low):
                then = program.add(_State(None, (program.copied(part, then), end)))
        for _ in range(low):
            then = program.copied(part, then)
        return then

    return made
