"""Run the command line: `python -m toolkit`, and the command `gguf-toolkit`."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line; an interrupt while it is being imported ends at once, because there is nothing to undo."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # One that the parent had ignored, as nohup does, stays so.
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end_at_once)
    from toolkit.cli import main as run_command_line

    run_command_line()


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    if sys.stderr is not None:
        os.write(2, b"interrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
