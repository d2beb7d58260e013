"""The check that every finished file passes before it gets its name: it reads back, and llama.cpp accepts it."""

from pathlib import Path

from toolkit.errors import EnvironmentFaultError, GgufError
from toolkit.gguf_reader import read_gguf
from toolkit.memory import MemoryProbe, MemorySettings

_SMALL_CONTEXT = 64


def check_loads(path: Path) -> None:
    """Read the header back, and have llama.cpp load the file without its weights, in a process of its own.

    Raises GgufError if either refuses.
    """
    read_gguf(path)
    with MemoryProbe() as probe:
        try:
            probe.probe(
                path,
                MemorySettings(n_ctx=_SMALL_CONTEXT, n_batch=_SMALL_CONTEXT, n_ubatch=_SMALL_CONTEXT, device="cpu"),
            )
        except GgufError as error:
            raise GgufError(f"the finished file does not load, so it was not kept: {error}") from error
        except EnvironmentFaultError as error:
            if "memory could not be told" in str(error):
                raise GgufError(f"the finished file makes llama.cpp fail, so it was not kept: {error}") from error
            # A build of llama.cpp that does not give its memory account has loaded the file all the same.
