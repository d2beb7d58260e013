"""`run`: the answer of a GGUF file to a prompt, loaded with the split that fits what is free."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from toolkit.errors import InputError
from toolkit.gguf.format import Metadata, ModelKeys
from toolkit.gguf.reader import read_gguf
from toolkit.measures.chat_rendering import TemplateRenderer
from toolkit.measures.generation import Generation, GenerationStats, Sampling, chat_prompt
from toolkit.planning.load_plan import LoadedBytes
from toolkit.reporter import Reporter
from toolkit.tokenizer.chat_template import default_template, special_texts
from toolkit.verbs.chat_templates import metadata_with_template
from toolkit.verbs.devices import PathName, warn_of_unused_gpu
from toolkit.verbs.loading import LoadedFile, LoadFields, how_to_load, load_file
from toolkit.verbs.values import NotNegative, NotNegativeFloat, Positive
from toolkit.verbs.verb import verb

DEFAULT_CONTEXT = 4096


@dataclass(frozen=True)
class RunRequest(LoadFields):
    """A GGUF file and a prompt."""

    gguf: Path | str
    prompt: str
    _: KW_ONLY
    system: str | None = None
    """system message, for models whose chat template takes one"""
    chat_template: PathName | None = None
    """chat template in place of the model's own"""
    raw: bool = False
    """continue the prompt as it is, without a chat template"""
    n_tokens: Positive = 256
    """tokens to generate, at most"""
    temperature: NotNegativeFloat = 0.0
    """0 takes the most likely token"""
    seed: NotNegative = 0
    """random seed, for temperatures above 0"""
    n_ctx_seq: Positive | None = None
    """context length; None is the trained one, at most 4096"""
    on_text: Callable[[str], None] | None = None
    """called with every piece of the answer as it comes"""


@dataclass(frozen=True)
class RunResult:
    """An answer, and what it took."""

    gguf: Path
    answer: str
    stats: GenerationStats
    devices: tuple[LoadedBytes, ...]


@verb(RunRequest)
def run(request: RunRequest, reporter: Reporter) -> RunResult:
    """Load a GGUF file and let it answer a prompt, in its own chat format.

    ```python
    print(toolkit.run("model-Q4_K_M.gguf", "Why is the sky blue?", n_tokens=100).answer)
    ```

    Raises GgufError for a file that llama.cpp refuses, DoesNotFitError if it does not fit, InputError for a prompt that is
    empty or longer than the context, or a chat template that cannot be rendered.
    """
    gguf = Path(request.gguf)
    for name in ("system", "chat_template"):
        if request.raw and getattr(request, name):
            raise InputError(f"--{name.replace('_', '-')} is a part of the chat format, which --raw leaves out")
    if not request.prompt:
        raise InputError("the prompt is empty")
    warn_of_unused_gpu(reporter)
    metadata = metadata_with_template(read_gguf(gguf).metadata, request.chat_template)
    text, is_rendered = _text(gguf, metadata, request, reporter)
    n_ctx_seq = request.n_ctx_seq or _default_context(metadata)
    pieces = []
    with load_file(gguf, how_to_load(request), n_ctx_seq, reporter) as loaded:
        generation = _generation(loaded, text, request, is_rendered=is_rendered)
        for piece in generation:
            pieces.append(piece)
            if request.on_text is not None:
                request.on_text(piece)
        assert generation.stats is not None
        return RunResult(gguf, "".join(pieces), generation.stats, loaded.devices)


def _default_context(metadata: Metadata) -> int:
    return min(DEFAULT_CONTEXT, ModelKeys(metadata).count("context_length") or DEFAULT_CONTEXT)


def _text(gguf: Path, metadata: Metadata, request: RunRequest, reporter: Reporter) -> tuple[str, bool]:
    """Return what the model continues, and whether its chat template wrote it."""
    if request.raw:
        return request.prompt, False
    template = default_template(metadata)
    if template is None:
        if request.system:
            raise InputError(f"{gguf.name} has no chat template, so it takes no --system message")
        reporter.note("there is no chat template in the file: the prompt is continued as it is")
        return request.prompt, False
    first = [{"role": "system", "content": request.system}] if request.system else []
    messages = [*first, {"role": "user", "content": request.prompt}]
    with TemplateRenderer() as renderer:
        return chat_prompt(renderer, template, messages, special_texts(metadata)), True


def _generation(loaded: LoadedFile, text: str, request: RunRequest, *, is_rendered: bool) -> Generation:
    runtime = loaded.runtime
    tokens = runtime.tokenize_rendered(text) if is_rendered else runtime.tokenize(text, parse_special=True)
    return Generation(runtime, tokens, Sampling(request.n_tokens, request.temperature, request.seed))
