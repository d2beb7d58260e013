"""Regular expressions that files of strangers match with names of modules, in time that is linear in the name.

Python's `re` backtracks, with some patterns for longer than anyone waits. Here all paths through a pattern are followed
at once (Thompson's simulation), which needs the subset of Python's syntax that `pattern_syntax` reads.
"""

from collections.abc import Iterable
from functools import lru_cache

from toolkit.pattern_syntax import PatternError, PatternSyntax, Program, State, is_word_character

MAX_PATTERNS = 4096
"""that a file should have: a pattern for every projection of a model with hundreds of blocks"""
_MAX_KEPT = 4096
"""steps that a pattern remembers"""

_States = frozenset[int]


class NamePattern:
    """A pattern, ready to be matched."""

    def __init__(self, text: str, *, anywhere: bool = False) -> None:
        """Read a pattern; `anywhere` prepares it for `found_in`.

        Raises PatternError if it is not a regular expression, or not one of the subset.
        """
        self.pattern = text
        syntax = PatternSyntax(text)
        self._ahead = [(wanted, NamePattern(inner)) for wanted, inner in syntax.lookaheads()]
        if self._ahead and anywhere:
            raise PatternError("(?= and (?! cannot be part of a pattern that may stand anywhere in a name")
        self._program = Program()
        accepting = self._program.add(State())
        self._start = syntax.rest()(self._program, accepting)
        self._steps: dict[tuple[_States, str, str], tuple[bool, _States]] = {}

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
        states, before = frozenset((self._start,)), ""
        for character in (*name, ""):
            accepted, states = self._step(states, before, character)
            if accepted and not (whole and character):
                return True
            if anywhere:
                states |= {self._start}
            elif not states:
                return False
            before = character
        return False

    def _step(self, states: _States, before: str, character: str) -> tuple[bool, _States]:
        """Return whether the pattern may end between two characters, and the states after the second."""
        places = _places(before, character)
        key = states, character, places
        if key not in self._steps:
            if len(self._steps) >= _MAX_KEPT:
                self._steps.clear()
            reached = self._reached(states, places)
            after = frozenset(
                target
                for index in reached
                if character and (test := self._program.states[index].test) is not None and test(character)
                for target in self._program.states[index].next
            )
            self._steps[key] = 0 in reached, after
        return self._steps[key]

    def _reached(self, states: Iterable[int], places: str) -> set[int]:
        reached: set[int] = set()
        waiting = list(states)
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
    boundary = "b" if is_word_character(before) is not is_word_character(after) else "B"
    return boundary + ("^" if not before else "") + ("$" if not after else "")
