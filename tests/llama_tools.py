"""llama-perplexity and llama-imatrix, followed line by line on llama.cpp's own C functions: what they would print here.

Processors round matrix products differently, so what the tools printed on one of them is no oracle for another. This one
is made on the machine that tests, shares no line with the toolkit, and runs in a process of its own, because a device that
a test added stays in the test's. Where a build of llama.cpp is one that `golden_prints` has prints of, it must print the same.

    python tests/llama_tools.py perplexity MODEL TEXT -c 64 [--chunks N] [--stride N] [--logits FILE]
    python tests/llama_tools.py divergence MODEL LOGITS
    python tests/llama_tools.py imatrix MODEL TEXT -c 64 -o SUMS.npz

Source: tools/perplexity/perplexity.cpp and tools/imatrix/imatrix.cpp of llama.cpp (commit 0c1e570).
"""

import argparse
import ctypes
import ctypes.util
import hashlib
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy

f32 = numpy.float32
BATCH = 2048
EXPF = ctypes.CDLL(ctypes.util.find_library("m")).expf
EXPF.restype, EXPF.argtypes = ctypes.c_float, [ctypes.c_float]


def llama_tool(*words):
    """Run a command of this file in a process of its own; return what it printed."""
    command = [sys.executable, __file__, *map(str, words)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


class Model:
    """A model with a context, as `common_init_from_params` makes them for one thread."""

    def __init__(self, path, n_ctx, n_batch, n_parallel, watch=None):
        from llama_cpp import llama_cpp

        self.api = llama_cpp
        self.api.llama_log_set(self._quiet, None)
        self.api.llama_backend_init()
        self.pointer = self.api.llama_model_load_from_file(os.fsencode(path), self.api.llama_model_default_params())
        self.vocab = self.api.llama_model_get_vocab(self.pointer)
        self.n_vocab = self.api.llama_vocab_n_tokens(self.vocab)
        given = self.api.llama_context_default_params()
        given.n_ctx, given.n_batch, given.n_ubatch, given.n_seq_max = n_ctx, n_batch, 512, n_parallel
        given.n_threads = given.n_threads_batch = 1
        given.swa_full = given.kv_unified = False
        if watch is not None:
            given.cb_eval = self.watch = self.api.ggml_backend_sched_eval_callback(watch)
        self.context = self.api.llama_init_from_model(self.pointer, given)
        self.batch = self.api.llama_batch_init(n_batch, 0, 1)

    @staticmethod
    def _quiet(_level, _text, _data):
        """Say nothing."""

    _quiet = staticmethod(ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(_quiet))

    @property
    def bos(self):
        return self.api.llama_vocab_bos(self.vocab) if self.api.llama_vocab_get_add_bos(self.vocab) else None

    def tokenize(self, path):
        text = path.read_bytes()
        text = text[:-1] if text.endswith(b"\n") else text
        tokens = (self.api.llama_token * (len(text) + 8))()
        count = self.api.llama_tokenize(self.vocab, text, len(text), tokens, len(tokens), True, False)
        return list(tokens[:count])

    def clear(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

    def decode(self, entries):
        """Compute a batch of (token, position, sequence, whether its logits are wanted); return those: float32 [n, n_vocab]."""
        batch = self.batch
        batch.n_tokens = len(entries)
        for place, (token, position, sequence, wanted) in enumerate(entries):
            batch.token[place], batch.pos[place], batch.logits[place] = token, position, wanted
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, sequence
        assert self.api.llama_decode(self.context, batch) == 0
        shape = sum(wanted for *_, wanted in entries), self.n_vocab
        return numpy.ctypeslib.as_array(self.api.llama_get_logits(self.context), shape).copy()


def windows_of(tokens, n_ctx, chunks):
    count = len(tokens) // n_ctx
    count = count if chunks is None else min(count, chunks)
    return [tokens[place * n_ctx : (place + 1) * n_ctx] for place in range(count)]


def logits_of(path, n_ctx, windows_or_text, chunks=None, first=None, watch=None, n_batch=BATCH):
    """Yield (model, windows), then float32 [n_ctx - first, n_vocab] of each window: `n_batch` tokens of windows side by side."""
    together = max(1, n_batch // n_ctx)
    model = Model(path, together * n_ctx, min(n_batch, together * n_ctx), together, watch)
    is_text = isinstance(windows_or_text, Path)
    windows = windows_of(model.tokenize(windows_or_text), n_ctx, chunks) if is_text else windows_or_text
    yield model, windows
    first = n_ctx // 2 if first is None else first
    for start in range(0, len(windows), together):
        group, entries = windows[start : start + together], []
        for sequence, window in enumerate(group):
            begun = window if model.bos is None else [model.bos, *window[1:]]
            entries += [(token, place, sequence, place >= first) for place, token in enumerate(begun)]
        model.clear()
        yield from model.decode(entries).reshape(len(group), n_ctx - first, model.n_vocab)


def exponentials(row):
    """Return the C library's expf of float32 [n], as a list."""
    return list(map(EXPF, row.tolist()))


def perplexity(path, text, n_ctx, chunks=None, logits=None):
    run = logits_of(path, n_ctx, text, chunks)
    model, windows = next(run)
    out = logits and logits.open("wb")
    if out:
        out.write(struct.pack("<8s3i", b"_logits_", n_ctx, model.n_vocab, len(windows)))
        out.write(numpy.array(windows, "<i4").tobytes())
    total = squares = count = 0
    printed = ""
    for number, (window, rows) in enumerate(zip(windows, run, strict=True), 1):
        for row, token in zip(rows[:-1], window[n_ctx // 2 + 1 :], strict=True):
            nll = stored(out, row, token) if out else plain(row, token)
            total, squares, count = total + nll, squares + nll * nll, count + 1
        printed += f"[{number}]{math.exp(total / count):.4f},"
    mean, variance = total / count, squares / count - (total / count) ** 2
    error = math.sqrt(variance / (count - 1)) * math.exp(mean)
    print(f"{printed}\nFinal estimate: PPL = {math.exp(mean):.4f} +/- {error:.5f}")


def plain(row, token):
    """`log_softmax` without a file."""
    top = row.max()
    return -(float(row[token] - top) - math.log(sum(exponentials(row - top))))


def stored(out, row, token):
    """`log_softmax` that stores a row of log-probabilities in 16 bits each."""
    top = row.max()
    bottom = max(row.min(), top - f32(16))
    log_sum = f32(math.log(sum(exponentials(row - top))))
    scale = (top - bottom) / f32(65535)
    codes = numpy.zeros(2 * ((len(row) + 1) // 2), "<u2")
    if scale:
        steps = f32(1) / scale * (row - bottom)
        codes[: len(row)] = numpy.where(row > bottom, numpy.rint(steps), 0)
    out.write(struct.pack("<2f", scale, bottom - top - log_sum) + codes.tobytes())
    return float(top + log_sum - row[token])


def strided_perplexity(path, text, n_ctx, stride):
    """`perplexity_v2` with a batch of n_ctx; it puts BOS into the tokens after they were computed, so that none is seen."""
    model = Model(path, n_ctx + stride // 2, n_ctx, 1)
    tokens, width = model.tokenize(text), model.api.llama_n_ctx(model.context)
    total = count = 0
    printed = ""
    for chunk in range(-(-(len(tokens) - width) // stride)):
        window = tokens[chunk * stride : chunk * stride + width]
        model.clear()
        parts = [
            model.decode([(token, start + place, 0, True) for place, token in enumerate(window[start : start + n_ctx])])
            for start in range(0, width, n_ctx)
        ]
        rows = numpy.concatenate(parts)
        for place in range(width - stride - 1, width - 1):
            powers = exponentials(rows[place] - rows[place].max())
            chance = f32(powers[window[place + 1]] / sum(powers))
            total, count = total - float(f32(math.log(chance))), count + 1
        printed += f"[{chunk + 1}]{math.exp(total / count):.4f},"
    print(printed)


def divergence(path, logits):
    with logits.open("rb") as file:
        _, n_ctx, n_vocab, n_chunks = struct.unpack("<8s3i", file.read(20))
        windows = numpy.frombuffer(file.read(4 * n_ctx * n_chunks), "<i4").reshape(n_chunks, n_ctx).tolist()
        saved = numpy.frombuffer(file.read(), "<u2").reshape(n_chunks, n_ctx - 1 - n_ctx // 2, -1)
    run = logits_of(path, n_ctx, windows)
    next(run)
    rows = [
        one_token(row, base[:4].view("<f4"), base[4 : 4 + n_vocab], token)
        for window, bases, logits_of_window in zip(windows, saved, run, strict=True)
        for row, base, token in zip(logits_of_window[:-1], bases, window[n_ctx // 2 + 1 :], strict=True)
    ]
    print_divergence(*map(numpy.array, zip(*rows, strict=True)))


def one_token(row, head, codes, token):
    """`log_softmax` of the divergence: what is said of a token, each as it is rounded there."""
    scale, lowest, top = head[0], head[1], row.max()
    log_sum = f32(math.log(sum(exponentials(row - top))))
    nll, base_nll = top + log_sum - row[token], -(scale * f32(codes[token]) + lowest)
    base = scale * codes.astype(f32) + lowest
    near = base > f32(-16)
    terms = numpy.array(exponentials(base[near]), f32) * (base[near] - row[near] + (top + log_sum))
    change = f32(EXPF(-nll)) - f32(EXPF(-base_nll))
    return nll, base_nll, float(terms.sum(dtype=float)), change, row.argmax() == base.argmax()


def mean_and_error(values, squares=None):
    squares = values * values if squares is None else squares
    mean = float(values.sum(dtype=float)) / len(values)
    variance = float(squares.sum(dtype=float)) / len(values) - mean * mean
    return mean, math.sqrt(variance / (len(values) - 1)) if variance > 0 else 0.0


def percentile(ordered, fraction):
    place = f32(fraction) * f32(len(ordered) - 1)
    index = int(place)
    part = f32(place - f32(index))
    return (f32(1) - part) * ordered[index] + part * ordered[min(index + 1, len(ordered) - 1)]


def median(ordered):
    half = len(ordered) // 2
    return f32(0.5) * (ordered[half] + ordered[half - 1]) if len(ordered) % 2 == 0 else ordered[half]


def print_divergence(nll, base_nll, kld, change, same):
    print_perplexities(nll, base_nll)
    mean, error = mean_and_error(kld)
    print(f"\n====== KL divergence statistics ======\nMean    KLD: {mean:10.6f} ± {error:10.6f}")
    print_distribution(numpy.sort(kld.astype(f32)), "KLD", ("90.0", "Median", "10.0"), lambda value: f": {value:10.6f}")
    mean, error = mean_and_error(change)
    print("\n====== Token probability statistics ======")
    print(f"Mean    Δp: {100 * mean:6.3f} ± {100 * error:5.3f} %")
    middle = ("90.0", "75.0", "Median", "25.0", "10.0")
    print_distribution(numpy.sort(change), "Δp", middle, lambda value: f": {100 * float(value):6.3f}%")
    squares = (change * change).astype(float)
    mean, error = mean_and_error(squares)
    root, share = math.sqrt(mean), same.sum() / len(same)
    print(f"RMS Δp    : {100 * root:6.3f} ± {100 * 0.5 / root * error:5.3f} %")
    print(f"Same top p: {100 * share:6.3f} ± {100 * math.sqrt(share * (1 - share) / (len(same) - 1)):5.3f} %")


def print_perplexities(nll, base_nll):
    (mean, error), (base_mean, base_error) = mean_and_error(nll), mean_and_error(base_nll)
    count, value, base_value = len(nll), math.exp(mean), math.exp(base_mean)
    covariance = (float((nll * base_nll).sum(dtype=float)) / count - mean * base_mean) / (count - 1)
    ratio_error = math.sqrt(error * error + base_error * base_error - 2 * covariance)
    ratio, both = math.exp(mean - base_mean), value * base_value
    difference_error = math.sqrt((value * error) ** 2 + (base_value * base_error) ** 2 - 2 * both * covariance)
    print("====== Perplexity statistics ======")
    print(f"Mean PPL(Q)                   : {value:10.6f} ± {value * error:10.6f}")
    print(f"Mean PPL(base)                : {base_value:10.6f} ± {base_value * base_error:10.6f}")
    print(f"Cor(ln(PPL(Q)), ln(PPL(base))): {100 * covariance / (error * base_error):6.2f}%")
    print(f"Mean ln(PPL(Q)/PPL(base))     : {mean - base_mean:10.6f} ± {ratio_error:10.6f}")
    print(f"Mean PPL(Q)/PPL(base)         : {ratio:10.6f} ± {ratio * ratio_error:10.6f}")
    print(f"Mean PPL(Q)-PPL(base)         : {value - base_value:10.6f} ± {difference_error:10.6f}")


def print_distribution(ordered, name, middle, write):
    for words in ("Maximum", "99.9", "99.0", "95.0", *middle, " 5.0", " 1.0", " 0.1", "Minimum"):
        ends = {"Maximum": ordered[-1], "Minimum": ordered[0], "Median": median(ordered)}
        value = ends[words] if words in ends else percentile(ordered, float(words) / 100)
        print(f"{words if words in ends else words + '%':<7} {name}{write(value)}")


class Tensor(ctypes.Structure):
    """`struct ggml_tensor`."""

    _fields_ = [
        ("type", ctypes.c_int), ("buffer", ctypes.c_void_p), ("ne", ctypes.c_int64 * 4), ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int), ("op_params", ctypes.c_int32 * 16), ("flags", ctypes.c_int32), ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p), ("view_offs", ctypes.c_size_t), ("data", ctypes.c_void_p), ("name", ctypes.c_char * 64),
    ]  # fmt: skip


class Collector:
    """`collect_imatrix`; sums are float32, by the name of the weight."""

    def __init__(self):
        from llama_cpp import llama_cpp

        self.ggml = llama_cpp._lib
        self.ggml.ggml_op_name.restype, self.ggml.ggml_nbytes.restype = ctypes.c_char_p, ctypes.c_size_t
        self.sums, self.counts = {}, {}

    def values(self, pointer, dtype):
        """Return the numbers of a tensor, with the first length last."""
        tensor, size = Tensor.from_address(pointer), self.ggml.ggml_nbytes(ctypes.c_void_p(pointer))
        data = ctypes.create_string_buffer(size)
        self.ggml.ggml_backend_tensor_get(ctypes.c_void_p(pointer), data, ctypes.c_size_t(0), ctypes.c_size_t(size))
        return numpy.ndarray(tuple(tensor.ne)[::-1], dtype, data, strides=tuple(tensor.nb)[::-1])

    def __call__(self, pointer, ask, _data):
        node = Tensor.from_address(pointer)
        operation = self.ggml.ggml_op_name(node.op)
        if operation not in (b"MUL_MAT", b"MUL_MAT_ID"):
            return not ask
        weight, inputs = Tensor.from_address(node.src[0]), Tensor.from_address(node.src[1])
        name = weight.name.decode()
        if ask:
            is_wanted = inputs.ne[1] >= 16 and inputs.type == 0 and name.startswith("blk.")
            return operation == b"MUL_MAT_ID" or is_wanted
        x = self.values(node.src[1], f32)
        if operation == b"MUL_MAT_ID":
            self.add_routed(name, x[0], self.values(node.src[2], numpy.int32)[0, 0], weight.ne[2])
        else:
            self.add_dense(name, x)
        return True

    def add_routed(self, name, x, experts, n_experts):
        sums = self.sums.setdefault(name, numpy.zeros((n_experts, x.shape[-1]), f32))
        counts = self.counts.setdefault(name, numpy.zeros(n_experts, int))
        for slot in range(experts.shape[1]):
            for token in range(len(x)):
                row = x[token, slot % x.shape[1]]
                counts[experts[token, slot]] += 1
                sums[experts[token, slot]] += row * row

    def add_dense(self, name, x):
        assert x.shape[:2] == (1, 1), "none of these models multiplies several matrices at once"
        sums = self.sums.setdefault(name, numpy.zeros((1, x.shape[-1]), f32))
        self.counts.setdefault(name, numpy.zeros(1, int))[0] += x.shape[2]
        for row in x[0, 0]:
            sums[0] += row * row


def imatrix(path, text, n_ctx, output, n_batch):
    collector = Collector()
    run = logits_of(path, n_ctx, text, first=0, watch=collector, n_batch=n_batch)
    next(run)
    for _ in run:
        pass
    parts = {f"{name}.in_sum2": sums for name, sums in collector.sums.items()}
    parts |= {f"{name}.counts": counts for name, counts in collector.counts.items()}
    numpy.savez(output, **parts)
    print("\n".join(digests(parts)))


def digests(parts):
    """Return a line with a short hash of every array, as float32: the tool prints none of its sums."""
    return [
        f"{name} {hashlib.sha256(part.astype('<f4').tobytes()).hexdigest()[:16]}"
        for name, part in sorted(parts.items())
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=("perplexity", "divergence", "imatrix"))
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("-c", type=int)
    parser.add_argument("-b", type=int, default=BATCH)
    parser.add_argument("--chunks", type=int)
    parser.add_argument("--stride", type=int)
    parser.add_argument("--logits", type=Path)
    parser.add_argument("-o", type=Path)
    given = parser.parse_args()
    if given.tool == "divergence":
        divergence(given.model, given.text)
    elif given.tool == "imatrix":
        imatrix(given.model, given.text, given.c, given.o, given.b)
    elif given.stride is not None:
        strided_perplexity(given.model, given.text, given.c, given.stride)
    else:
        perplexity(given.model, given.text, given.c, given.chunks, given.logits)


if __name__ == "__main__":
    main()
