"""A task that remembers what it was told, for tests of progress."""


class RecordedTask:
    """Keeps every update as (done, total, value)."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, str]] = []

    def advance(self, amount: int = 1) -> None:
        raise NotImplementedError

    def update(self, done: int, total: int, value: str = "") -> None:
        self.steps.append((done, total, value))
