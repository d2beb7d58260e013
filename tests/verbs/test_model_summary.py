from pathlib import Path

import pytest
from tiny_model import TinyShape, write_tiny_model

from toolkit.gguf.format import Metadata, MetadataValue, ValueType, array, string, uint32
from toolkit.gguf.ggml_types import F32, TYPES
from toolkit.gguf.reader import read_gguf
from toolkit.verbs.model_summary import Span, SpecialToken, TypeShare, summarize, summarize_tensor


def vocabulary(**keys: MetadataValue) -> Metadata:
    """Return the vocabulary's metadata, with keys below `tokenizer.ggml.`."""
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def test_a_whole_model_is_summarized(tmp_path: Path) -> None:
    shape = TinyShape()
    file = read_gguf(write_tiny_model(tmp_path / "tiny.gguf", shape))
    summary = summarize(
        file.metadata, [summarize_tensor(name, rows.shape, rows.type) for name, rows in file.tensors.items()]
    )
    assert (summary.architecture, summary.name, summary.n_ctx_train) == ("llama", "tiny", 1024)
    assert (summary.n_layer, str(summary.n_head), str(summary.n_head_kv)) == (2, "4", "2")
    assert summary.kv_cache is not None
    assert summary.kv_cache.bytes_per_token == 2 * 2 * (64 + 64) * 2
    assert summary.vocabulary.model == "llama"
    assert summary.vocabulary.special_tokens[0] == SpecialToken("bos", 1, "<s>")
    assert [(share.type, share.tensors) for share in summary.types] == [("F16", 16), ("F32", 5)]
    assert summary.n_tensors == 21


def test_bytes_and_bits_follow_from_the_tensors() -> None:
    summary = summarize(
        {},
        [
            summarize_tensor("a", (2, 3, 256), TYPES["Q4_K"]),
            summarize_tensor("b", (256,), F32),
            summarize_tensor("c", (4, 256), TYPES["Q4_K"]),
        ],
    )
    assert summary.types == (TypeShare("Q4_K", 2, 2560, 1440), TypeShare("F32", 1, 256, 1024))
    assert (summary.parameters, summary.tensor_bytes) == (2816, 2464)
    assert summary.bits_per_weight == 7.0


def test_heads_that_differ_from_layer_to_layer_are_a_span() -> None:
    metadata: Metadata = {
        "general.architecture": string("openelm"),
        "openelm.block_count": uint32(4),
        "openelm.attention.head_count": array(ValueType.INT32, (12, 12, 16, 16)),
        "openelm.attention.head_count_kv": array(ValueType.INT32, (3, 3, 4, 4)),
    }
    summary = summarize(metadata, [])
    assert summary.n_head_kv == Span(3, 4)
    assert (str(summary.n_head), str(summary.n_head_kv)) == ("12..16", "3..4")


def test_without_heads_of_keys_every_head_has_one() -> None:
    metadata: Metadata = {"general.architecture": string("gpt2"), "gpt2.attention.head_count": uint32(12)}
    assert summarize(metadata, []).n_head_kv == Span(12, 12)


@pytest.mark.parametrize(("number", "name"), [(15, "Q4_K_M"), (0, "F32"), (1024 + 7, "Q8_0"), (999, "999"), (4, "4")])
def test_file_types_have_names(number: int, name: str) -> None:
    assert summarize({"general.file_type": uint32(number)}, []).file_type == name


def test_a_vocabulary_is_summarized() -> None:
    metadata = vocabulary(
        model=string("gpt2"),
        pre=string("qwen2"),
        tokens=array(ValueType.STRING, ("<s>", "a", "</s>")),
        bos_token_id=uint32(0),
        eot_token_id=uint32(2),
        padding_token_id=uint32(7),
        add_bos_token=MetadataValue(ValueType.BOOL, True),
    )
    found = summarize(metadata | {"tokenizer.chat_template": string("{{ x }}")}, []).vocabulary
    assert (found.size, found.model, found.pre, found.chat_template_length) == (3, "gpt2", "qwen2", 7)
    assert found.special_tokens == (
        SpecialToken("bos", 0, "<s>"),
        SpecialToken("eot", 2, "</s>"),
        SpecialToken("padding", 7, None),
    )


def test_without_tokens_the_embedding_tells_the_size_of_the_vocabulary() -> None:
    assert summarize({}, [summarize_tensor("token_embd.weight", (400, 64), F32)]).vocabulary.size == 400


def test_nothing_at_all_is_summarized_too() -> None:
    summary = summarize({}, [])
    assert (summary.architecture, summary.parameters, summary.bits_per_weight) == (None, 0, 0.0)
    assert (summary.kv_cache, summary.n_head, summary.vocabulary.size) == (None, None, None)


@pytest.mark.parametrize("architecture", [string("llama"), uint32(3), array(ValueType.STRING, ("llama",))])
def test_values_of_another_type_than_expected_are_passed_over(architecture: MetadataValue) -> None:
    keys = ("block_count", "context_length", "attention.head_count", "expert_count")
    metadata = {f"llama.{key}": array(ValueType.STRING, ("x",)) for key in keys} | {
        "general.architecture": architecture
    }
    summary = summarize(metadata | vocabulary(tokens=uint32(3), bos_token_id=string("1")), [])
    assert {summary.n_layer, summary.n_ctx_train, summary.n_head, summary.n_expert, summary.kv_cache} == {None}
    assert summary.vocabulary.special_tokens == ()
