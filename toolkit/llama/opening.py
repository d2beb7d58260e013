"""Whether a GGUF file may be opened in this process: only after a child process has opened it whole.

llama.cpp ends the process over many a malformed file: equal tokens, counts that contradict each other, a graph that cannot
be built. So a child loads everything but the weights, the vocabulary too, and makes a context of the same settings. The
answer is kept on disk under what the file and the settings are, and the build of llama.cpp.

As a program: reads one JSON request on stdin, {path, settings}, and writes {} or {kind, error}.
"""

import hashlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import errors
from toolkit.errors import CrashError, EnvironmentFaultError, GgufError, ToolkitError
from toolkit.gguf.format import Metadata, ModelKeys
from toolkit.gguf.ggml_types import F32, TensorType
from toolkit.gguf.reader import files_to_load, read_gguf
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.offload_build import llama_build
from toolkit.machine.disk_cache import DiskCache, cache_folder
from toolkit.machine.host import child_environment

if TYPE_CHECKING:
    from toolkit.llama.runtime_settings import RuntimeSettings

SMALL = LoadSettings(n_ctx=64, n_batch=64, n_ubatch=64, device="cpu")
"""for whom a context is of no importance"""
MAPPED_ALIGNMENT = 32
"""where llama.cpp lets tensors begin that it uses within a mapped file (`TENSOR_ALIGNMENT` of ggml)"""
Ask = Callable[[Path, LoadSettings], "Opening"]
"""has a child open a file with these settings; raises what the child found"""
_FORMAT = 3
_HEAD_BYTES = 32 << 20
"""twice the largest header in use"""
_TIMEOUT_SECONDS = 600.0
_NO_ROTATION = -1
"""`LLAMA_ROPE_TYPE_NONE`"""
_TEXT = "The quick brown fox jumps over 12 lazy dogs"
"""letters, digits and spaces: any other character may be missing in a vocabulary that is of use all the same"""
_FAULTS = ("SIGABRT", "SIGSEGV", "SIGFPE", "SIGBUS", "SIGTRAP", "SIGSYS")
"""signals that tell of the code over a file, and not of somebody who wanted it to end"""
_WINDOWS_FAULTS = {0xC0000005: "SIGSEGV", 0xC0000409: "SIGABRT", 0xC0000094: "SIGFPE", 3: "SIGABRT"}
_TELLING = re.compile(r"GGML_ASSERT|GGML_ABORT|what\(\):|[Aa]ssertion|fatal error|error: ")
_NEVER_COMPUTED = ("F64", "I8", "I16", "I64")
_BUILD_FOLDER = re.compile(r"^\S*/(?=[\w.-]+:\d+: )")


@dataclass(frozen=True)
class Opening:
    """What a child found of a file that opens."""

    can_be_mapped: bool


@dataclass
class _State:
    """What this process has to know of children."""

    expendable: bool = False
    """whether it is one itself"""
    askers: tuple[Ask, ...] = ()
    """children that are there already, the last first to be asked"""
    known: dict[str, Opening] = field(default_factory=dict)


_STATE = _State()


def check_opens(path: Path, settings: "LoadSettings | RuntimeSettings" = SMALL) -> Opening:
    """Return what a child process, now or earlier, found that opened the whole file and made a context of these settings.

    Raises GgufError if llama.cpp refuses the file or dies of it, CrashError if the child was ended by something else, and
    EnvironmentFaultError if it gives no answer.
    """
    if _STATE.expendable:
        return Opening(can_be_mapped=True)
    asked = _on_the_cpu(settings)
    key = [_FORMAT, [_identity(file) for file in files_to_load(path)], asdict(asked), llama_build()]
    name = json.dumps(key)
    if name not in _STATE.known:
        _STATE.known[name] = _looked_up(key) or _asked_and_kept(key, path, asked)
    return _STATE.known[name]


def check_can_be_mapped(path: Path, opening: Opening) -> None:
    """Raise GgufError for a file whose tensors begin where llama.cpp cannot use them as they lie."""
    if not opening.can_be_mapped:
        raise GgufError(
            f"{path}: its tensors do not begin at multiples of {MAPPED_ALIGNMENT} bytes, so llama.cpp cannot map it; --no-mmap reads "
            "it, and `quantize` or `merge` writes it anew"
        )


def _looked_up(key: Any) -> Opening | None:
    kept = DiskCache.below(cache_folder(), "opened").get(key)
    return Opening(kept["can_be_mapped"]) if isinstance(kept, dict) and kept.keys() == {"can_be_mapped"} else None


def _asked_and_kept(key: Any, path: Path, settings: LoadSettings) -> Opening:
    found = (_STATE.askers[-1] if _STATE.askers else _ask_a_new_child)(path, settings)
    DiskCache.below(cache_folder(), "opened").put(key, asdict(found))
    return found


@contextmanager
def asked_of(ask: Ask) -> Iterator[None]:
    """Have a child that is there already asked within this context, instead of a new one for every file."""
    before = _STATE.askers
    _STATE.askers = (*before, ask)
    try:
        yield
    finally:
        _STATE.askers = before


def this_process_may_die() -> None:
    """Say that this is a child, which opens files itself."""
    _STATE.expendable = True


def open_whole(path: Path, settings: LoadSettings) -> Opening:
    """Load a file without its weights, split a text with its vocabulary, make a context, and free all of it.

    No memory is allocated for weights, cache or graph. Raises GgufError if llama.cpp refuses the file or the settings, or
    would end over a number once it computes.
    """
    # Imported here, because who only asks has no need of the library.
    from toolkit.llama.native import llama_cpp
    from toolkit.llama.parameters import LOAD_INTO_BUFFERS, ModelParameters, context_parameters, load_model, refusal_of
    from toolkit.llama.text import detokenize, has_text, tokenize

    parameters = ModelParameters(settings, [])
    parameters.structure.vocab_only = vocabulary_only = _holds_no_tensor(path)
    parameters.structure.load_mode, parameters.structure.no_alloc = LOAD_INTO_BUFFERS, True
    model = load_model(path, parameters.structure)
    try:
        rotates = llama_cpp().llama_model_rope_type(model) != _NO_ROTATION
        vocabulary = llama_cpp().llama_model_get_vocab(model)
        if has_text(vocabulary):
            detokenize(vocabulary, tokenize(vocabulary, _TEXT, parse_special=True), special=True)
        if not vocabulary_only:
            context = llama_cpp().llama_init_from_model(model, context_parameters(settings))
            if not context:
                raise refusal_of(path)
            llama_cpp().llama_free(context)
    finally:
        llama_cpp().llama_model_free(model)
    file = read_gguf(path)
    _check_numbers(path, file.metadata, rotates=rotates)
    check_types(path, {name: rows.type for name, rows in file.tensors.items()})
    return Opening(all(offset % MAPPED_ALIGNMENT == 0 for offset in file.tensor_offsets.values()))


def _holds_no_tensor(path: Path) -> bool:
    """Tell whether a file is a vocabulary and no more; of one that is damaged llama.cpp says more itself."""
    try:
        return not read_gguf(path).tensors
    except GgufError:
        return False


def _check_numbers(path: Path, metadata: Metadata, *, rotates: bool) -> None:
    """Refuse what ggml asserts of norms and rotations only when it computes them."""
    for key, found in metadata.items():
        # NaN is not at least 0 either.
        if key.endswith("epsilon") and isinstance(found.value, float) and not found.value >= 0:
            raise GgufError(f"{path}: {key} is {found.value}, and no norm can be computed with that: damaged")
    keys = ModelKeys(metadata)
    for suffix in ("rope.dimension_count", "rope.dimension_count_swa") if rotates else ():
        rotated, most = (
            keys.integer(suffix),
            keys.integer("attention.key_length" + suffix.removeprefix("rope.dimension_count")),
        )
        if rotated is not None and (rotated < 2 or rotated % 2 or (most is not None and rotated > most)):
            raise GgufError(
                f"{path}: {keys.architecture}.{suffix} is {rotated}, and it must be even, at least 2, and no more than the "
                f"{'length' if most is None else most} of a key: damaged"
            )


def check_types(path: Path, types: Mapping[str, TensorType]) -> None:
    """Refuse types that ggml has no product or sum for: it ends the process over them only when it computes."""
    for name, type_ in types.items():
        is_added = name.endswith(".bias") or "norm" in name
        if type_.name in _NEVER_COMPUTED or (is_added and type_ is not F32):
            raise GgufError(
                f"{path}: {name} is stored as {type_.name}, and llama.cpp computes with it in "
                f"{'F32' if is_added else 'other types'} only: damaged, or made for another program"
            )


def answer_to(path: Path, settings: LoadSettings) -> dict[str, Any]:
    """Return what a child says of a file, as JSON's values."""
    try:
        return asdict(open_whole(path, settings))
    except ToolkitError as error:
        return {"kind": type(error).__name__, "error": str(error)}


def opening_from(answer: dict[str, Any]) -> Opening:
    """Return what a child said, or raise it."""
    if "error" in answer:
        raise error_from(answer)
    return Opening(**answer)


def death_of(path: Path, code: int, messages: str) -> ToolkitError | None:
    """Return the error for a child that a signal ended over a file, None if none did.

    `code` is the process's exit code, negative for a signal; `messages` are what it left on stderr.
    """
    name = signal.Signals(-code).name if code < 0 else _WINDOWS_FAULTS.get(code) if sys.platform == "win32" else None
    if name is None:
        return None
    reason = telling_line(messages)
    said = f": {reason}" if reason else ""
    if name in _FAULTS:
        return GgufError(
            f"{path}: llama.cpp ends in {name} over it{said}; the file is malformed, make or download it again"
        )
    if name == "SIGILL":
        return CrashError(f"llama.cpp ends in {name}{said}: it was built for another processor; build it again")
    return CrashError(
        f"llama.cpp was ended by {name} while it opened {path}{said}; where nobody did that, memory ran out: close other programs"
    )


def telling_line(messages: str) -> str:
    """Return the line of a dying process that says why, without the folder that llama.cpp was built in."""
    lines = [line.strip() for line in messages.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)] or lines
    return _BUILD_FOLDER.sub("", telling[-1]) if telling else ""


def error_from(answer: dict[str, Any]) -> ToolkitError:
    """Return the error that a child answered with."""
    kind: type[ToolkitError] = getattr(errors, answer["kind"], EnvironmentFaultError)
    return kind(answer["error"])


def _on_the_cpu(settings: "LoadSettings | RuntimeSettings") -> LoadSettings:
    if isinstance(settings, LoadSettings):
        return replace(settings.on_cpu(), n_devices=1)
    return LoadSettings(
        settings.n_ctx,
        n_batch=settings.n_batch,
        n_ubatch=settings.n_ubatch,
        kv_type_k=settings.kv_type_k,
        kv_type_v=settings.kv_type_v,
        flash_attention=settings.flash_attention,
        device="cpu",
        n_parallel=settings.n_parallel,
        kv_unified=settings.kv_unified,
        swa_full=settings.swa_full,
    )


def _identity(file: Path) -> tuple[int, int, str]:
    """Return size, time of change and a digest of the beginning, which holds the header.

    Raises GgufError if the file cannot be read.
    """
    try:
        status = file.stat()
        return status.st_size, status.st_mtime_ns, _head_digest(file, status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise GgufError(f"{file}: cannot be read: {error.strerror or error}") from error


@lru_cache(maxsize=64)
def _head_digest(file: Path, *_status: int) -> str:
    with file.open("rb") as opened:
        return hashlib.sha256(opened.read(_HEAD_BYTES)).hexdigest()


def _ask_a_new_child(path: Path, settings: LoadSettings) -> Opening:
    command = [sys.executable, "-m", "toolkit.llama.opening"]
    request = json.dumps({"path": str(path), "settings": asdict(settings)})
    try:
        done = subprocess.run(
            command,
            input=request,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=child_environment(),
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFaultError(f"{path}: llama.cpp did not open it within {_TIMEOUT_SECONDS:g} s") from error
    died = death_of(path, done.returncode, done.stderr)
    if died is not None:
        raise died
    if done.returncode:
        raise EnvironmentFaultError(
            f"{path}: llama.cpp could not be asked to open it (code {done.returncode}): {telling_line(done.stderr)}"
        )
    return opening_from(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Answer one request."""
    this_process_may_die()
    request = json.load(sys.stdin)
    answer = answer_to(Path(request["path"]), LoadSettings.from_json(request["settings"]))
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    # Not the module that this file is under its own name, to which others speak.
    from toolkit.llama.opening import main as answer_one_request

    answer_one_request()
