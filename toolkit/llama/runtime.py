"""Run a GGUF file with llama.cpp: tokens in, logits out.

It is the `Runtime` that measurements need, over llama-cpp-python's low-level interface. Logits are kept only where they
are asked for, one batch at a time.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy
from numpy.typing import NDArray

from toolkit.errors import EnvironmentFaultError, InputError
from toolkit.gguf.reader import file_to_load, files_to_load, read_gguf
from toolkit.llama.batch import Embeddings, LlamaBatch, tokens_at_once, wanted_positions
from toolkit.llama.callbacks import Callback, ends_the_graph, native_code
from toolkit.llama.evaluation import Logits
from toolkit.llama.footprint import BufferBytes, Footprint, by_device
from toolkit.llama.log import llama_log
from toolkit.llama.memory_breakdown import output_buffer, read_memory_breakdown
from toolkit.llama.model_limits import (
    learnt_positions,
    loaded_architecture,
    refuse_without_next_token,
    why_loaded_model_predicts_none,
)
from toolkit.llama.native import llama_cpp
from toolkit.llama.opening import check_can_be_mapped, check_opens
from toolkit.llama.parameters import (
    LOAD_INTO_BUFFERS,
    MAP_FILE,
    ModelParameters,
    context_parameters,
    load_model,
    refusal_of,
)
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.vocabulary import detokenize, piece, tokenize
from toolkit.machine.host import physical_cores
from toolkit.machine.mapped_files import WatchedFile, as_now, check_unchanged

LAST = slice(-1, None)


class LlamaRuntime:
    """A model in llama.cpp; use it in a `with` statement, which frees it."""

    def __init__(self, path: Path, settings: RunSettings | None = None) -> None:
        """Load the model.

        Raises GgufError if llama.cpp refuses the file, DoesNotFitError if memory does not suffice.
        """
        self.path = file_to_load(path)
        self.settings = settings or RunSettings()
        self._library = llama_cpp()
        self._model: Any = None
        self._vocab: Any = None
        self._context: Any = None
        self._memory: Any = None
        self._batch: LlamaBatch | None = None
        self._silent: str | None = None
        self._files: tuple[WatchedFile, ...] = ()
        self._position = self._n_ctx = 0
        self._n_outputs = self.settings.n_outputs
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        library = self._library
        self._parameters = ModelParameters(self.settings, self.settings.device_pointers)
        self._files = as_now(files_to_load(self.path))
        opening = check_opens(self.path, self.settings)
        if self.settings.use_mmap:
            check_can_be_mapped(self.path, opening)
        self._parameters.structure.load_mode = MAP_FILE if self.settings.use_mmap else LOAD_INTO_BUFFERS
        self._model = load_model(self.path, self._parameters.structure)
        self._vocab = library.llama_model_get_vocab(self._model)
        self._silent = why_loaded_model_predicts_none(library, self._model)
        parameters = context_parameters(self.settings)
        parameters.n_threads = parameters.n_threads_batch = self.settings.n_threads or physical_cores()
        if self.settings.on_tensor is not None:
            callback = library.ggml_backend_sched_eval_callback
            self._on_tensor = Callback(callback, self.settings.on_tensor, ends_the_graph)
            parameters.cb_eval = self._on_tensor.pointer
        check_unchanged(self._files)
        with native_code():
            self._context = library.llama_init_from_model(self._model, parameters)
        if not self._context:
            raise refusal_of(self.path)
        self._memory = library.llama_get_memory(self._context)
        self._batch = LlamaBatch(self.settings.n_batch)
        architecture = loaded_architecture(library, self._model)
        positions = learnt_positions(architecture, lambda: read_gguf(self.path).shaped_tensors)
        self._n_ctx = min(int(library.llama_n_ctx_seq(self._context)), positions or sys.maxsize)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model; nothing else may be called afterwards."""
        context, model = self._context, self._model
        self._batch = self._context = self._model = None
        if context:
            self._library.llama_free(context)
        if model:
            self._library.llama_model_free(model)

    @property
    def n_ctx(self) -> int:
        """Return how many tokens a sequence can hold; llama.cpp rounds up what was asked for."""
        return self._n_ctx

    @property
    def n_parallel(self) -> int:
        """Return how many sequences can be evaluated together."""
        return self.settings.n_parallel

    @property
    def n_ctx_train(self) -> int:
        """Return the context length that the model was trained for."""
        return int(self._library.llama_model_n_ctx_train(self._model))

    @property
    def n_layer(self) -> int:
        """Return the number of repeating layers; full offload is one more."""
        return int(self._library.llama_model_n_layer(self._model))

    @property
    def n_vocab(self) -> int:
        """Return the number of tokens in the vocabulary."""
        return int(self._library.llama_vocab_n_tokens(self._vocab))

    @property
    def add_bos(self) -> bool:
        """Tell whether the model wants a beginning-of-sequence token before a text."""
        return bool(self._library.llama_vocab_get_add_bos(self._vocab))

    @property
    def bos_token(self) -> int | None:
        """Return that token, None if the model wants none."""
        return int(self._library.llama_vocab_bos(self._vocab)) if self.add_bos else None

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Return the token ids of a text; special tokens written in it are plain text unless `parse_special`."""
        return tokenize(self._vocab, text, add_special=add_special, parse_special=parse_special)

    def tokenize_rendered(self, text: str) -> list[int]:
        """Return the tokens of what a chat template wrote, with one beginning-of-sequence token if the model wants one."""
        tokens = self.tokenize(text, add_special=False, parse_special=True)
        # Many templates write the token themselves, and twice confuses a model.
        if self.bos_token is None or tokens[:1] == [self.bos_token]:
            return tokens
        return [self.bos_token, *tokens]

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Return the text of tokens; what is no UTF-8 becomes U+FFFD."""
        return detokenize(self._vocab, tokens, special=special)

    def clear(self) -> None:
        """Forget the sequence."""
        # Models without memory (encoders) have nothing to clear.
        if self._memory:
            self._library.llama_memory_clear(self._memory, False)
        self._position = 0

    def rewind(self, n_tokens: int) -> bool:
        """Forget all but the first tokens of the sequence; a recurrent state cannot go back."""
        if n_tokens > self._position or not self._memory:
            return False
        if not self._library.llama_memory_seq_rm(self._memory, 0, n_tokens, -1):
            return False
        self._position = n_tokens
        return True

    def feed(self, tokens: Sequence[int]) -> None:
        """Append tokens to the sequence and wait until they are computed; their logits stay unread."""
        if len(tokens) == 1 and self._batch is not None:
            # What is fed one by one is being timed, and a small model's token takes a millisecond or two.
            self._check_room(1)
            self._decode(self._batch.single(tokens[0], self._position), 1)
        else:
            for _ in self._evaluate(tokens, wanted_positions(len(tokens), LAST)):
                pass
        with native_code():
            self._library.llama_synchronize(self._context)

    def evaluate_batches(self, tokens: Sequence[int], logits_for: slice = LAST) -> Iterator[tuple[int, Logits]]:
        """Append tokens; yield (index into tokens, logits [n, n_vocab]), each a view valid until the next one."""
        for start, count in self._evaluate(tokens, wanted_positions(len(tokens), logits_for)):
            yield start, self._logits(count)

    def evaluate_chunks(self, chunks: Sequence[Sequence[int]], logits_for: slice) -> Iterator[tuple[int, int, Logits]]:
        """Forget everything; evaluate chunks of one length, each a sequence of its own, side by side.

        A batch takes as many tokens of every chunk as llama.cpp puts into one graph, so that the numbers are those of
        llama-perplexity, which hands over all tokens at once; but only the logits of one graph are held.
        """
        self.clear()
        wanted = wanted_positions(len(chunks[0]), logits_for)
        for start, count in self._evaluate(chunks, wanted):
            logits = self._logits(len(chunks) * count).reshape(len(chunks), count, self.n_vocab)
            for index, rows in enumerate(logits):
                yield index, start, rows

    def evaluate(self, tokens: Sequence[int], logits_for: slice = LAST) -> Logits:
        """Append tokens to the sequence and return float32 [n, n_vocab]: a copy of the logits that were asked for."""
        parts = [logits.copy() for _, logits in self.evaluate_batches(tokens, logits_for)]
        return numpy.concatenate(parts) if parts else numpy.empty((0, self.n_vocab), numpy.float32)

    def feed_embeddings(self, values: Embeddings) -> None:
        """Forget everything, and evaluate hidden states [sequences, n, n_embd], a batch at most, in place of tokens."""
        self.clear()
        self._check_room(values.shape[1])
        assert self._batch is not None
        self._decode(self._batch.embeddings(values), values.shape[1])
        with native_code():
            self._library.llama_synchronize(self._context)

    def ends_text(self, token: int) -> bool:
        """Tell whether a token ends what a model has to say."""
        return bool(self._library.llama_vocab_is_eog(self._vocab, token))

    def piece(self, token: int) -> bytes:
        """Return the text of one token, which need not be whole characters; special tokens have none."""
        return piece(self._vocab, token)

    def footprint(self) -> Footprint:
        """Return the bytes that the model takes now on every device.

        Raises EnvironmentFaultError if this build of llama.cpp does not tell.
        """
        return by_device(self.memory_buffers(), "this process")

    def footprint_if_known(self) -> Footprint | None:
        """Return the same, None if this build of llama.cpp does not tell."""
        try:
            return self.footprint()
        except EnvironmentFaultError:
            return None

    def memory_buffers(self) -> tuple[BufferBytes, ...]:
        """Return the bytes that the model takes now by buffer type."""
        outputs = output_buffer(self._model, self._n_outputs, self.n_parallel)
        return (*read_memory_breakdown(self._context), outputs)

    def _evaluate(
        self, tokens: Sequence[int] | Sequence[Sequence[int]], wanted: NDArray[numpy.bool_]
    ) -> Iterator[tuple[int, int]]:
        """Append tokens [n], or [sequences, n] to as many sequences; yield (first position, number) of wanted logits."""
        rows = numpy.atleast_2d(numpy.asarray(tokens, numpy.int32))
        count, length = rows.shape
        if not length:
            raise InputError("there are no tokens to evaluate")
        self._check_room(length)
        # What llama.cpp made of the settings: no batch is longer than the context that was asked for.
        sizes = (int(size(self._context)) for size in (self._library.llama_n_batch, self._library.llama_n_ubatch))
        step = tokens_at_once(count, *sizes)
        for start in range(0, length, step):
            asked, part = wanted[start : start + step], rows[:, start : start + step]
            assert self._batch is not None
            self._n_outputs = max(self._n_outputs, count * int(asked.sum()))
            self._decode(self._batch.fill(part, self._position, asked), part.shape[1])
            if asked.any():
                yield start + int(asked.argmax()), int(asked.sum())

    def _check_room(self, n_tokens: int) -> None:
        refuse_without_next_token(self.path.name, self._silent)
        if self._position + n_tokens > self._n_ctx:
            raise InputError(f"{self._position + n_tokens:,} tokens do not fit in a context of {self._n_ctx:,}")

    def _decode(self, batch: Any, n_tokens: int) -> None:
        """Compute a batch, which takes every sequence in it `n_tokens` further."""
        with native_code():
            code = self._library.llama_decode(self._context, batch)
        check_unchanged(self._files)
        if code != 0:
            raise EnvironmentFaultError(
                f"llama.cpp could not evaluate {batch.n_tokens} tokens at position {self._position} "
                f"(code {code}): {llama_log().reason()}"
            )
        self._position += n_tokens

    def _logits(self, count: int) -> Logits:
        pointer = self._library.llama_get_logits(self._context)
        if not pointer:
            raise InputError(f"{self.path.name} gives no logits; it is no model that predicts the next token")
        return numpy.ctypeslib.as_array(pointer, shape=(count, self.n_vocab))
