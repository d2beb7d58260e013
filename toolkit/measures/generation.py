"""Continue a prompt, token by token."""

import codecs
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy

from toolkit.errors import InputError
from toolkit.llama.evaluation import Logits
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.chat_rendering import Conversation, TemplateRefusalError, TemplateRenderer

Clock = Callable[[], float]


@dataclass(frozen=True)
class Sampling:
    """How many tokens to generate, and how to choose them: the likeliest, or drawn at a temperature."""

    n_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class GenerationStats:
    """What a generation took; the first token comes with the prompt's evaluation and counts to neither rate."""

    prompt_tokens: int
    prompt_seconds: float
    generated_tokens: int
    generation_seconds: float
    ended_by: Literal["model", "length", "context"]

    @property
    def prompt_tokens_per_second(self) -> float:
        """Return how fast the prompt was read."""
        return self.prompt_tokens / max(self.prompt_seconds, 1e-9)

    @property
    def generation_tokens_per_second(self) -> float | None:
        """Return how fast tokens came after the first; None if there was no second."""
        return (self.generated_tokens - 1) / self.generation_seconds if self.generated_tokens > 1 else None


class Generation:
    """The pieces of a text as they come; iterate once, then read `stats`."""

    def __init__(
        self, runtime: LlamaRuntime, prompt: Sequence[int], sampling: Sampling, clock: Clock = time.perf_counter
    ) -> None:
        """Prepare to continue the tokens of a prompt.

        Raises InputError if they fill the context.
        """
        if len(prompt) >= runtime.n_ctx:
            raise InputError(
                f"the prompt has {len(prompt):,} tokens, which leaves no token free in a context of {runtime.n_ctx:,}; give a longer --ctx"
            )
        self._runtime, self._prompt, self._sampling, self._clock = runtime, prompt, sampling, clock
        self._random = numpy.random.default_rng(sampling.seed)
        self.stats: GenerationStats | None = None

    def __iter__(self) -> Iterator[str]:
        """Yield text; a character whose bytes are spread over tokens comes with the last of them."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for piece in self._pieces():
            text = decoder.decode(piece)
            if text:
                yield text
        rest = decoder.decode(b"", final=True)
        if rest:
            yield rest

    def _pieces(self) -> Iterator[bytes]:
        runtime, most = self._runtime, min(self._sampling.n_tokens, self._runtime.n_ctx - len(self._prompt))
        runtime.clear()
        started = self._clock()
        token = self._choose(runtime.evaluate(self._prompt)[-1])
        read, count = self._clock(), 0
        ended_by: Literal["model", "length", "context"] = "length" if most == self._sampling.n_tokens else "context"
        while True:
            if runtime.ends_text(token):
                ended_by = "model"
                break
            yield runtime.piece(token)
            count += 1
            if count >= most:
                break
            token = self._choose(runtime.evaluate([token])[-1])
        self.stats = GenerationStats(len(self._prompt), read - started, count, self._clock() - read, ended_by)

    def _choose(self, logits: Logits) -> int:
        if self._sampling.temperature <= 0:
            return int(logits.argmax())
        scaled = (logits.astype(numpy.float64) - logits.max()) / self._sampling.temperature
        shares = numpy.exp(scaled)
        return int(self._random.choice(len(shares), p=shares / shares.sum()))


def chat_prompt(
    renderer: TemplateRenderer, template: str, messages: Sequence[Mapping[str, Any]], special: Mapping[str, str]
) -> str:
    """Return a conversation in a model's own format; `LlamaRuntime.tokenize_rendered` makes tokens of it.

    Raises InputError if the template does not take the conversation.
    """
    try:
        return renderer.render(template, Conversation("prompt", tuple(messages)), special)
    except TemplateRefusalError as refusal:
        raise InputError(
            f"the chat template does not take the prompt ({refusal}); --raw continues the prompt without it"
        ) from refusal
