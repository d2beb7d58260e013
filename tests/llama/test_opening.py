"""No file is opened in the process of a command that a child process has not opened whole."""

import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from altered_gguf import altered
from tiny_model import TinyShape, write_tiny_model

from toolkit.errors import CrashError, GgufError, InputError
from toolkit.gguf.format import MetadataValue, ValueType, string, uint32
from toolkit.gguf.ggml_types import TYPES
from toolkit.gguf.reader import read_gguf
from toolkit.llama import opening
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.opening import Opening, check_opens, death_of, files_opened_by, telling_line
from toolkit.llama.opening_child import check_types
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.llama.vocabulary import LlamaVocabulary

TOKENS = "tokenizer.ggml.tokens"
QUICK = ("--text", Path(__file__).parents[2] / "LICENSE", "--ctx", "64", "--threads", "1")


@dataclass(frozen=True)
class Sample:
    """One key of a valid file, changed so that llama.cpp ends the process."""

    case: str
    keys: dict[str, int | None]
    says: str
    """what is told of it"""


SAMPLES = {
    "equal tokens": Sample("llama2", {}, "GGML_ASSERT(id_to_token.size() == token_to_id.size())"),
    "block_count": Sample("llama2", {"llama.block_count": 65535}, "GGML_ASSERT(hparams.n_layer_all"),
    "experts and none used": Sample("mixtral", {"llama.expert_used_count": None}, "GGML_ASSERT(n_expert_used_max > 0)"),
    "fewer experts than used": Sample(
        "llama2", {"llama.expert_count": 1, "llama.expert_used_count": 2}, "GGML_ASSERT("
    ),
    "alignment 1": Sample("llama2", {"general.alignment": 1}, "cannot map it"),
    "alignment 2": Sample("llama2", {"general.alignment": 2}, "cannot map it"),
    "next tokens": Sample("llama2", {"llama.nextn_predict_layers": 8}, "llama.cpp"),
    "no rope dimensions": Sample("deepseek_v2", {"deepseek2.rope.dimension_count": None}, "llama.cpp"),
    "odd rotation": Sample("qwen3_next", {"qwen3next.rope.dimension_count": 17}, "is 17, and it must be even"),
    "rotation of nothing": Sample("qwen3_next", {"qwen3next.rope.dimension_count": 0}, "is 0, and it must be even"),
    "long rotation": Sample("qwen3_next", {"qwen3next.rope.dimension_count": 256}, "no more than the "),
    "wide values": Sample("gpt_oss", {"gpt-oss.attention.value_length": 256}, "llama.cpp"),
}


@pytest.fixture(params=SAMPLES)
def sample(request, converted, tmp_path):
    """Give a sample, and its file."""
    name, found = request.param, SAMPLES[request.param]
    source = converted(found.case, "bf16")
    metadata = {key: uint32(value) for key, value in found.keys.items() if value is not None}
    if name == "equal tokens":
        tokens = read_gguf(source).metadata[TOKENS]
        twice = (*tokens.value[:-1], tokens.value[-2])
        metadata = {TOKENS: replace(tokens, value=twice)}
    without = tuple(key for key, value in found.keys.items() if value is None)
    return found, altered(source, tmp_path / "sample.gguf", metadata, without_keys=without)


def test_a_file_that_llama_cpp_dies_of_is_refused_with_what_it_says(sample):
    found, path = sample
    with pytest.raises(GgufError) as caught:
        LlamaRuntime(path, RunSettings(n_ctx=64, n_batch=64, n_ubatch=64))
    assert str(caught.value).startswith(f"{path}: ")
    assert found.says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_command_that_loads_a_model_asks_a_child_first(converted, run_command, tmp_path):
    good = converted("llama2", "bf16")
    tokens = read_gguf(good).metadata[TOKENS]
    bad = altered(good, tmp_path / "bad.gguf", {TOKENS: replace(tokens, value=(*tokens.value[:-1], tokens.value[-2]))})
    out = tmp_path / "out"
    lines = [
        ("plan", bad, "--vram", "0"),
        ("perplexity", bad, *QUICK),
        ("bench", bad, "-p", "8", "-n", "8"),
        ("run", bad, "-p", "a", "-n", "1"),
        ("imatrix", bad, *QUICK, "-o", out),
        ("kld", good, "--base", bad, *QUICK),
        ("compare", good, bad, "--vram", "0", "--ctx", "64", "--chunk-size", "64", "--chunks", "2", "--no-rates"),
        ("quantize", bad, out, "-p", "q8_0"),
        ("verify", bad, "--source", good),
    ]
    for arguments in lines:
        done = run_command(*arguments)
        said = done.stderr + done.stdout
        assert done.returncode == (1 if arguments[0] == "verify" else 2), (arguments, said)
        assert "GGML_ASSERT(id_to_token.size()" in said, (arguments, said)
        assert "estimated" not in said
    assert not out.exists()


def test_an_answer_is_kept_for_the_file_the_settings_and_no_longer(tmp_path, monkeypatch):
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(tmp_path / "cache"))
    path, asked = write_tiny_model(tmp_path / "m.gguf"), []

    def ask(_path: Path, settings: LoadSettings) -> Opening:
        asked.append(settings.n_ctx)
        return Opening(True)

    with files_opened_by(ask):
        for _ in range(2):
            check_opens(path, LoadSettings(n_ctx=64))
            opening._STATE.known.clear()
        assert asked == [64]
        check_opens(path, LoadSettings(n_ctx=128))
        check_opens(path.rename(tmp_path / "other.gguf"), LoadSettings(n_ctx=128, n_gpu_layers=3))
        assert asked == [64, 128]
        write_tiny_model(tmp_path / "other.gguf", TinyShape(n_layer=1))
        check_opens(tmp_path / "other.gguf", LoadSettings(n_ctx=128))
        assert asked == [64, 128, 128]


def test_whoever_loads_asks(tmp_path):
    path, asked = write_tiny_model(tmp_path / "m.gguf", TinyShape(n_layer=1)), []

    def ask(path: Path, settings: LoadSettings) -> Opening:
        asked.append(settings.n_ctx)
        raise GgufError(f"{path}: died")

    for load in (lambda: LlamaRuntime(path, RunSettings(n_ctx=96)), lambda: LlamaVocabulary(path)):
        with files_opened_by(ask), pytest.raises(GgufError, match="died"):
            load()
    assert asked == [96, 64]


def test_a_child_of_its_own_answers_where_none_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", "off")
    monkeypatch.setattr(opening, "_STATE", opening._State())
    good = write_tiny_model(tmp_path / "m.gguf", TinyShape(n_layer=1))
    assert check_opens(good) == Opening(True)
    with pytest.raises(GgufError, match=r"ends in SIGABRT over it: llama-model\.cpp:"):
        check_opens(altered(good, tmp_path / "bad.gguf", {"llama.block_count": uint32(65535)}))


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGFPE", "SIGBUS"])
def test_a_signal_of_the_code_is_the_files_fault(name):
    error = death_of(Path("m.gguf"), -signal.Signals[name], "a\n/x/y.cpp:3: GGML_ASSERT(z) failed\n")
    assert isinstance(error, GgufError)
    assert str(error).startswith(f"m.gguf: llama.cpp ends in {name} over it: y.cpp:3: GGML_ASSERT(z) failed; ")


@pytest.mark.parametrize(
    ("name", "says"), [("SIGKILL", "memory ran out"), ("SIGTERM", "nobody did"), ("SIGILL", "processor")]
)
def test_another_signal_is_nobodys_fault_and_no_estimate_answers(name, says):
    error = death_of(Path("m.gguf"), -signal.Signals[name], "")
    assert isinstance(error, CrashError)
    assert error.exit_code == 4
    assert says in str(error)
    assert "\n" not in str(error)


def test_a_child_that_ends_by_itself_was_not_ended_by_a_file():
    assert death_of(Path("m.gguf"), 1, "no module") is None


def test_the_telling_line_is_what_was_thrown():
    thrown = "terminate called after throwing an instance of 'std::out_of_range'\n  what():  unordered_map::at\n"
    assert telling_line(thrown) == "what():  unordered_map::at"
    assert telling_line("") == ""


@pytest.mark.parametrize(
    ("key", "value"), [("llama.attention.layer_norm_rms_epsilon", v) for v in (-1.0, float("nan"))]
)
def test_a_number_that_no_norm_can_be_computed_with_is_refused(key, value, tmp_path):
    path = altered(
        write_tiny_model(tmp_path / "m.gguf"), tmp_path / "bad.gguf", {key: MetadataValue(ValueType.FLOAT32, value)}
    )
    with pytest.raises(GgufError, match=r"epsilon is .*no norm"):
        LlamaRuntime(path, RunSettings(n_ctx=64, n_batch=64, n_ubatch=64))


@pytest.mark.parametrize(
    ("name", "type_name"),
    [("blk.0.attn_norm.weight", "F16"), ("output_norm.weight", "F64"), ("blk.0.ffn_up.weight", "I64")],
)
def test_a_type_that_llama_cpp_cannot_compute_with_is_refused(name, type_name, tmp_path):
    types = dict.fromkeys(("blk.0.attn_norm.weight", "blk.0.ffn_up.weight", "token_embd.weight"), TYPES["F32"])
    check_types(tmp_path, types)
    with pytest.raises(GgufError, match=rf"{name} is stored as {type_name}, and llama\.cpp computes"):
        check_types(tmp_path, types | {name: TYPES[type_name]})


def test_a_sentencepiece_name_on_a_byte_level_vocabulary_is_refused(converted, tmp_path):
    path = altered(converted("gpt2", "bf16"), tmp_path / "bad.gguf", {"tokenizer.ggml.model": string("llama")})
    with pytest.raises(GgufError, match="unordered_map::at"):
        LlamaRuntime(path, RunSettings(n_ctx=64, n_batch=64, n_ubatch=64))


def test_a_vocabulary_without_a_model_is_opened(tmp_path):
    source = write_tiny_model(tmp_path / "m.gguf")
    path = altered(source, tmp_path / "vocabulary.gguf", without=tuple(read_gguf(source).tensors))
    with LlamaVocabulary(path) as vocabulary:
        assert vocabulary.detokenize(vocabulary.tokenize("the art")) == "the art"
    with pytest.raises(GgufError):
        LlamaRuntime(path, RunSettings(n_ctx=64, n_batch=64, n_ubatch=64))


def test_a_file_without_a_vocabulary_runs_and_splits_no_text(tmp_path):
    path = altered(
        write_tiny_model(tmp_path / "m.gguf"), tmp_path / "bare.gguf", {"tokenizer.ggml.model": string("none")}
    )
    with LlamaRuntime(path, RunSettings(n_ctx=64, n_batch=64, n_ubatch=64, n_threads=1)) as runtime:
        assert runtime.evaluate([1, 2, 3]).shape == (1, runtime.n_vocab)
        with pytest.raises(InputError, match="no vocabulary"):
            runtime.tokenize("a")
