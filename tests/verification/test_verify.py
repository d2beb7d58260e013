"""Files that are what their source says pass every check; each known fault fails the check that is made for it."""

import json

import numpy
import pytest
from altered_gguf import altered
from twins import changed_case, convert_edited

from toolkit.demo import demo_checkpoint
from toolkit.gguf.format import ValueType, array, float32, items, string, uint32
from toolkit.gguf.reader import read_gguf
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.tokenizer.vocabulary import TOKENS
from toolkit.verification import Outcome, Reference, VerifyOptions, run_checks
from toolkit.verification.chat import check_chat_templates

CLEAN = ("llama2", "llama3", "qwen3_moe", "gemma2", "gpt2", "mamba2", "gpt_oss", "gemma3_multimodal")
NO_RUN = VerifyOptions(run=False)


@pytest.fixture(scope="session")
def checks(kit_checkpoint):
    """Give a function that verifies a file against a case of the kit and returns its checks by name."""

    def run(path, case, options=NO_RUN):
        directory = kit_checkpoint(case)
        found = run_checks(path, Reference(source_from_checkpoint(directory), directory), options)
        return {check.name: check for check in found}

    return run


def failures(checks):
    return [check for check in checks if check.failed]


def failing(found):
    return {name for name, check in found.items() if check.outcome is Outcome.FAIL}


@pytest.mark.parametrize("case", CLEAN)
def test_what_we_convert_passes_every_check(case, checks, converted):
    found = checks(converted(case, "q8_0"), case, VerifyOptions())
    assert {name: check.outcome for name, check in found.items()} == dict.fromkeys(found, Outcome.PASS)
    assert len(found) == 13


def rows_of(shape, order):
    """Return what reorders the rows of a matrix that were quantized one by one."""
    return lambda rows: rows.reshape(*shape, -1)[order].reshape(len(rows), -1)


def test_a_q_projection_in_the_order_of_the_checkpoint_is_caught(checks, converted, tmp_path):
    name = "blk.0.attn_q.weight"
    path = converted("llama3", "q8_0")
    rows = read_gguf(path).tensors[name].shape[0]
    heads = read_gguf(path).metadata["llama.attention.head_count"].value
    half = rows // heads // 2
    order = (numpy.arange(rows).reshape(heads, half, 2).swapaxes(1, 2)).reshape(-1)
    found = checks(altered(path, tmp_path / "q.gguf", bytes_of={name: lambda stored: stored[order]}), "llama3")
    assert failing(found) == {"weights"}
    assert f"{name} (row " in found["weights"].evidence
    assert found["weights"].observed == "1 tensors too far"


def test_a_norm_of_gemma_without_its_1_is_caught(checks, converted, tmp_path):
    path = altered(
        converted("gemma2", "q8_0"), tmp_path / "g.gguf", weights={"blk.1.attn_norm.weight": lambda norm: norm - 1}
    )
    found = checks(path, "gemma2")
    assert failing(found) == {"weights"}
    assert found["weights"].evidence.startswith("blk.1.attn_norm.weight (row 0, ")


def test_another_pre_tokenizer_is_caught_by_the_tokens_that_it_gives(checks, converted, tmp_path):
    path = altered(converted("llama3", "q8_0"), tmp_path / "p.gguf", {"tokenizer.ggml.pre": string("gpt-2")})
    found = checks(path, "llama3")
    assert failing(found) == {"token ids"}
    assert "instead of" in found["token ids"].evidence
    assert "tokenizer.json through tokenizers" in found["token ids"].evidence


TOOLS = (
    "{% if tools %}[TOOLS]{{ tools | tojson }}[/TOOLS]{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_a_chat_template_that_lost_its_tools_is_caught(tmp_path):
    def with_template(checkpoint):
        settings = checkpoint.directory / "tokenizer_config.json"
        content = json.loads(settings.read_text(encoding="utf-8"))
        settings.write_text(json.dumps(content | {"chat_template": TOOLS}), encoding="utf-8")

    directory = changed_case("llama3", tmp_path, with_template)
    reference = Reference(source_from_checkpoint(directory), directory)
    path = convert_edited(directory, "q8_0")
    assert not failures(run_checks(path, reference, NO_RUN))
    lost = TOOLS.replace("{% if tools %}[TOOLS]{{ tools | tojson }}[/TOOLS]{% endif %}", "")
    bad = altered(path, tmp_path / "t.gguf", {"tokenizer.chat_template": string(lost)})
    (check,) = failures(run_checks(bad, reference, NO_RUN))
    assert check.name == "chat template"
    assert check.observed == "2 of 6 renderings differ"
    assert "tools offered: '<|system|>" in check.evidence


def test_a_template_that_is_written_otherwise_and_says_the_same_passes(checks, converted, tmp_path):
    path = converted("llama2", "q8_0")
    template = read_gguf(path).metadata["tokenizer.chat_template"].value
    same = {"tokenizer.chat_template": string("{# the same #}" + template)}
    assert not failing(checks(altered(path, tmp_path / "c.gguf", same), "llama2"))
    other = {"tokenizer.chat_template": string(template + "!")}
    assert failing(checks(altered(path, tmp_path / "c.gguf", other), "llama2")) == {"chat template"}


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ 7 ** (10**8) }}", "of the source's template: rendering it takes more than 2 s"),
        ("{{ 'a' * 10**11 }}", "of the source's template: rendering it takes more than 512 MiB"),
    ],
)
def test_a_template_that_never_ends_is_unknown_where_it_is_the_sources(converted, tmp_path, template, reason):
    path = converted("llama2", "q8_0")
    hostile = altered(path, tmp_path / "hostile.gguf", {"tokenizer.chat_template": string(template)})
    check = check_chat_templates(source_from_gguf(hostile, allow_requantize=True), read_gguf(hostile))
    assert check.outcome is Outcome.UNKNOWN
    assert check.evidence.startswith(reason)


def test_a_template_that_never_ends_fails_where_the_sources_does(converted, tmp_path):
    path = converted("llama2", "q8_0")
    template = read_gguf(path).metadata["tokenizer.chat_template"].value
    hostile = {"tokenizer.chat_template": string(template + "{{ 'a' * 10**11 }}")}
    file = read_gguf(altered(path, tmp_path / "hostile.gguf", hostile))
    check = check_chat_templates(source_from_gguf(path, allow_requantize=True), file)
    assert check.outcome is Outcome.FAIL
    assert check.evidence == "of the file's template: rendering it takes more than 512 MiB of memory"


def test_two_experts_in_each_others_place_are_caught(checks, converted, tmp_path):
    name = "blk.0.ffn_up_exps.weight"
    path = converted("qwen3_moe", "q8_0")
    shape = read_gguf(path).tensors[name].shape
    order = numpy.arange(shape[0])
    order[[1, 2]] = order[[2, 1]]
    found = checks(altered(path, tmp_path / "e.gguf", bytes_of={name: rows_of(shape[:2], order)}), "qwen3_moe")
    assert failing(found) == {"weights"}
    assert name in found["weights"].evidence


def test_a_truncated_vocabulary_is_caught(checks, converted, tmp_path):
    path = converted("llama2", "q8_0")
    metadata = read_gguf(path).metadata
    keys = [key for key in metadata if key.rpartition(".")[2] in ("tokens", "scores", "token_type")]
    short = {key: array(metadata[key].item_type, metadata[key].value[:-3]) for key in keys}
    found = checks(altered(path, tmp_path / "v.gguf", short), "llama2")
    assert {"token count", "vocabulary", "loads"} <= failing(found)
    assert found["token ids"].outcome is Outcome.UNKNOWN


def test_a_file_with_fewer_tokens_than_its_source_fails_and_ends_nothing(converted):
    path = converted("llama3", "q8_0")
    found = run_checks(path, Reference(source_from_checkpoint(demo_checkpoint()), demo_checkpoint()), NO_RUN)
    assert {"token count", "vocabulary", "token ids"} <= {check.name for check in failures(found)}


def test_a_changed_token_score_or_merge_is_caught(checks, converted, tmp_path):
    path = converted("llama3", "q8_0")
    metadata = read_gguf(path).metadata
    merges = list(items(metadata, "tokenizer.ggml.merges"))
    merges[0], merges[1] = merges[1], merges[0]
    found = checks(
        altered(path, tmp_path / "m.gguf", {"tokenizer.ggml.merges": array(ValueType.STRING, merges)}), "llama3"
    )
    assert "vocabulary" in failing(found)
    tokens = list(items(metadata, TOKENS))
    tokens[7] = "other"
    found = checks(altered(path, tmp_path / "t.gguf", {TOKENS: array(ValueType.STRING, tokens)}), "llama3")
    assert "token 7 is 'other' of type 1, expected" in found["vocabulary"].evidence


def test_another_end_of_text_is_caught(checks, converted, tmp_path):
    found = checks(
        altered(converted("llama2", "q8_0"), tmp_path / "s.gguf", {"tokenizer.ggml.eos_token_id": uint32(1)}), "llama2"
    )
    assert "special tokens" in failing(found)
    assert found["special tokens"].evidence == "eos_token_id is 1, expected 2"


@pytest.mark.parametrize(
    ("key", "value", "evidence"),
    [
        ("llama.rope.freq_base", float32(10000.0), "is 10000, expected 500000"),
        ("llama.attention.layer_norm_rms_epsilon", float32(1e-6), "is 1e-06, expected 1e-05"),
        ("llama.attention.head_count_kv", uint32(4), "is 4, expected 2"),
    ],
)
def test_another_rope_epsilon_or_head_count_is_caught(key, value, evidence, checks, converted, tmp_path):
    found = checks(altered(converted("llama3", "q8_0"), tmp_path / "a.gguf", {key: value}), "llama3")
    assert "architecture" in failing(found)
    assert found["architecture"].evidence == f"{key} {evidence}"


def test_keys_that_llama_cpp_fills_in_may_be_absent(checks, converted, tmp_path):
    keys = (
        "llama.attention.key_length",
        "llama.attention.value_length",
        "llama.rope.dimension_count",
        "llama.vocab_size",
    )
    path = altered(converted("llama3", "q8_0"), tmp_path / "a.gguf", without_keys=keys)
    assert not failing(checks(path, "llama3"))


def test_a_missing_tensor_is_caught(checks, converted, tmp_path):
    found = checks(
        altered(converted("llama3", "q8_0"), tmp_path / "x.gguf", without=("blk.1.ffn_up.weight",)), "llama3"
    )
    assert {"tensors", "loads"} <= failing(found)
    assert "missing: blk.1.ffn_up.weight" in found["tensors"].evidence


def test_a_tied_output_may_be_written_out_if_it_is_the_embedding(checks, converted, tmp_path):
    path, output = converted("smollm", "q8_0"), "output.weight"
    copies = {output: "token_embd.weight"}
    assert not failing(checks(altered(path, tmp_path / "o.gguf", copies=copies), "smollm"))
    other = altered(path, tmp_path / "o.gguf", copies=copies, weights={output: lambda rows: rows[::-1]})
    assert failing(checks(other, "smollm")) == {"weights"}


def test_a_not_a_number_is_caught(checks, converted, tmp_path):
    def damage(values):
        return numpy.where(numpy.arange(len(values)) == 3, numpy.nan, values)

    path = altered(converted("llama3", "q8_0"), tmp_path / "n.gguf", weights={"output_norm.weight": damage})
    found = checks(path, "llama3")
    assert failing(found) == {"weights", "finite"}
    assert found["finite"].observed == "output_norm.weight"


def test_weights_of_zero_are_caught_by_what_they_compute(checks, converted, tmp_path):
    path = altered(
        converted("llama3", "q8_0"), tmp_path / "z.gguf", weights={"output_norm.weight": lambda norm: norm * 0}
    )
    found = checks(path, "llama3", VerifyOptions())
    assert found["first logits"].observed == "all tokens are equally likely"


def test_one_row_in_the_wrong_place_is_found_when_all_are_looked_at(checks, converted, tmp_path):
    name = "blk.0.ffn_down.weight"
    path = converted("llama3", "q8_0")
    order = numpy.arange(read_gguf(path).tensors[name].shape[0])
    order[[40, 41]] = order[[41, 40]]
    bad = altered(path, tmp_path / "r.gguf", bytes_of={name: lambda stored: stored[order]})
    found = checks(bad, "llama3", VerifyOptions(full=True, run=False))
    assert f"{name} (row 40, " in found["weights"].evidence or f"{name} (row 41, " in found["weights"].evidence


@pytest.mark.parametrize(("case", "why"), [("bert", "gives embeddings"), ("t5", "has an encoder of its own")])
def test_a_model_that_predicts_no_next_token_is_not_run(case, why, checks, converted):
    found = checks(converted(case, "q8_0"), case, VerifyOptions())
    assert found.pop("first logits").evidence.startswith(f"the model {why}")
    # llama.cpp makes no use of the byte pieces that the kit's unigram vocabulary has, and T5's has not
    assert failing(found) == ({"token ids"} if case == "t5" else set())


def test_left_out_tensors_are_named_with_the_reason(checks, converted):
    evidence = checks(converted("gemma3_multimodal", "q8_0"), "gemma3_multimodal")["tensors"].evidence
    assert "left out: vision or audio tensors" in evidence


def test_a_file_is_held_against_the_gguf_file_that_it_was_made_of(converted, tmp_path):
    base = converted("llama3", "bf16")
    reference = Reference(source_from_gguf(base), base)
    assert not failures(run_checks(converted("llama3", "q8_0"), reference))
    pre = {"tokenizer.ggml.pre": string("gpt-2")}
    failed = failures(run_checks(altered(converted("llama3", "q8_0"), tmp_path / "p.gguf", pre), reference, NO_RUN))
    assert [check.name for check in failed] == ["token ids"]
