"""Weights as they are published: tied, renamed, incomplete, surplus, of other dtypes, not finite."""

import json

import numpy
import pytest
from editable_checkpoint import write_safetensors
from logits import llama_logits
from twins import changed_case, convert_edited, file_of, gguf_of, value

from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.errors import CheckpointError, TensorError
from toolkit.gguf.reader import read_gguf
from toolkit.quant_profile import load_profile, parse_override
from toolkit.sources.hf_source import source_from_checkpoint

EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
FIRST_Q = "model.layers.0.self_attn.q_proj.weight"


def refused(directory, error, message):
    with pytest.raises(error, match=message):
        source_from_checkpoint(directory)


def dropping(*names):
    return lambda checkpoint: [checkpoint.tensors.pop(name) for name in names]


def adding(**tensors):
    return lambda checkpoint: checkpoint.tensors.update(tensors)


def replaced(checkpoint, name, array, dtype="BF16"):
    checkpoint.tensors[name] = (dtype, array)


def tie(checkpoint):
    checkpoint.config["tie_word_embeddings"] = True
    checkpoint.tensors.pop(OUTPUT, None)


# Tied embeddings


def test_a_tied_model_has_no_output_tensor_and_its_embedding_the_type_of_an_output(tmp_path):
    path = convert_edited(changed_case("llama3", tmp_path, tie), "q4_k_m")
    tensors = read_gguf(path).tensors
    assert "output.weight" not in tensors
    assert tensors["token_embd.weight"].type.name == "Q6_K"
    assert numpy.isfinite(llama_logits(path, False, numpy.arange(8))).all()


def test_a_stored_copy_of_a_tied_embedding_changes_nothing(tmp_path):
    def with_copy(checkpoint):
        tie(checkpoint)
        checkpoint.tensors[OUTPUT] = checkpoint.tensors[EMBEDDING]

    directory = changed_case("llama3", tmp_path / "a", with_copy)
    assert not any("lm_head" in warning for warning in source_from_checkpoint(directory).warnings)
    assert convert_edited(directory).read_bytes() == file_of("llama3", tmp_path / "b", tie)


def test_an_output_that_differs_from_the_tied_embedding_is_left_out_with_a_warning(tmp_path):
    def with_other_row(checkpoint):
        tie(checkpoint)
        dtype, rows = checkpoint.tensors[EMBEDDING]
        rows = rows.copy()
        rows[-1] ^= 1
        checkpoint.tensors[OUTPUT] = (dtype, rows)

    directory = changed_case("llama3", tmp_path / "a", with_other_row)
    warnings = [warning for warning in source_from_checkpoint(directory).warnings if "lm_head.weight" in warning]
    assert len(warnings) == 1
    assert "model.embed_tokens.weight" in warnings[0]
    assert convert_edited(directory).read_bytes() == file_of("llama3", tmp_path / "b", tie)


def test_an_untied_model_without_an_output_is_refused(tmp_path):
    directory = changed_case("llama3", tmp_path, dropping(OUTPUT))
    refused(directory, TensorError, "lm_head.weight is missing though tie_word_embeddings is false")


# Names


@pytest.mark.parametrize("case", ["llama2", "mistral", "qwen2", "qwen3", "smollm3"])
@pytest.mark.parametrize("prefix", ["", "transformer.model.", "model.model."])
def test_names_without_the_usual_prefix_give_the_same_file(case, prefix, tmp_path):
    bare = file_of(case, tmp_path / "a", lambda checkpoint: checkpoint.rename("model.", prefix))
    assert bare == file_of(case, tmp_path / "b")


@pytest.mark.parametrize("old", ["model.layers.1.", "model.embed_tokens.", "model.norm."])
def test_names_of_two_styles_are_refused(old, tmp_path):
    directory = changed_case("llama2", tmp_path, lambda checkpoint: checkpoint.rename(old, old.removeprefix("model.")))
    refused(directory, TensorError, "named otherwise|two styles of naming|is missing")


WRAPPED = {
    "": "_orig_mod.",
    "model.": "model._fsdp_wrapped_module.",
    "model.layers.0.": "model.layers.0._checkpoint_wrapped_module._orig_mod.",
    "model.layers.1.mlp.": "model.layers.1.mlp.module.",
    "lm_head.": "module.lm_head.module.",
}


@pytest.mark.parametrize("old", WRAPPED)
def test_the_wrappers_of_training_are_taken_out_wherever_they_stand(old, tmp_path):
    wrapped = file_of("llama3", tmp_path / "a", lambda checkpoint: checkpoint.rename(old, WRAPPED[old]))
    assert wrapped == file_of("llama3", tmp_path / "b")


def test_a_tensor_with_a_wrapper_and_without_is_refused(tmp_path):
    def doubled(checkpoint):
        checkpoint.tensors[f"_orig_mod.{FIRST_Q}"] = checkpoint.tensors[FIRST_Q]

    refused(changed_case("llama3", tmp_path, doubled), TensorError, f"{FIRST_Q} and _orig_mod.{FIRST_Q} are the same")


def test_a_word_that_only_contains_a_wrapper_stays(tmp_path):
    def renamed(checkpoint):
        checkpoint.rename("model.layers.0.mlp.", "model.layers.0.mlp.my_module.")

    refused(changed_case("llama3", tmp_path, renamed), TensorError, "mlp.gate_proj.weight is missing")


def test_the_same_tensor_under_two_names_is_refused(tmp_path):
    def doubled(checkpoint):
        checkpoint.tensors["language_model.lm_head.weight"] = checkpoint.tensors[OUTPUT]

    refused(changed_case("llama2", tmp_path / "a", doubled), TensorError, "the same tensor in two styles of naming")

    def two_models(checkpoint):
        checkpoint.tensors["decoder.embed_tokens.weight"] = checkpoint.tensors[EMBEDDING]

    refused(changed_case("llama2", tmp_path / "b", two_models), TensorError, "or of two models")


def lora_on_q(checkpoint):
    checkpoint.rename(FIRST_Q, FIRST_Q.replace(".weight", ".base_layer.weight"))
    rank = numpy.zeros((4, 256), dtype="<f4")
    checkpoint.tensors[FIRST_Q.replace(".weight", ".lora_A.default.weight")] = ("F32", rank)
    checkpoint.tensors[FIRST_Q.replace(".weight", ".lora_B.default.weight")] = ("F32", rank.T.copy())


def saved_module(checkpoint):
    checkpoint.tensors["lm_head.modules_to_save.default.weight"] = checkpoint.tensors[OUTPUT]
    checkpoint.rename(OUTPUT, "lm_head.original_module.weight")


def lora_below_a_prefix(checkpoint):
    lora_on_q(checkpoint)
    checkpoint.rename("", "base_model.model.")


@pytest.mark.parametrize("change", [lora_on_q, saved_module, lora_below_a_prefix])
def test_an_unmerged_adapter_is_refused(change, tmp_path):
    directory = changed_case("llama2", tmp_path, change)
    refused(directory, TensorError, r"an unmerged adapter \(1 modules, first .*\): call merge_and_unload")


@pytest.mark.parametrize("with_config", [False, True])
def test_an_adapter_alone_is_refused_with_the_name_of_its_base(with_config, tmp_path):
    if with_config:
        (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}', encoding="utf-8")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}', encoding="utf-8")
    write_safetensors(tmp_path / "adapter_model.safetensors", {"a.lora_A.weight": ("F32", numpy.zeros(4, "<f4"))})
    refused(tmp_path, CheckpointError, "is a LoRA adapter of org/base, not a model: use `convert-lora`, or merge it")


# Presence


def test_the_weights_of_another_format_beside_the_index_are_ignored_and_said(tmp_path):
    directory = changed_case("llama2", tmp_path / "a")
    tensors = json.loads((directory / "model.safetensors").read_bytes()[8:].split(b"}}")[0] + b"}}")
    (directory / "model.safetensors").rename(directory / "model-00001-of-00001.safetensors")
    weight_map = dict.fromkeys(tensors, "model-00001-of-00001.safetensors")
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    write_safetensors(directory / "consolidated.safetensors", {"tok_embeddings.weight": ("U8", numpy.zeros(4, "u1"))})
    (directory / "params.json").write_text("{}", encoding="utf-8")
    assert source_from_checkpoint(directory).warnings == (
        "ignored consolidated.safetensors: the weights are read from model.safetensors.index.json",
    )
    assert convert_edited(directory).read_bytes() == file_of("llama2", tmp_path / "b")


@pytest.mark.parametrize(
    ("claimed", "message"),
    [
        (3, "num_hidden_layers is 3, but model.layers.2 has no tensor"),
        (1, "num_hidden_layers is 1, but there are tensors of model.layers.1"),
    ],
)
def test_a_number_of_blocks_that_the_weights_contradict_is_refused(claimed, message, tmp_path):
    directory = changed_case("llama2", tmp_path, lambda checkpoint: checkpoint.config.update(num_hidden_layers=claimed))
    refused(directory, TensorError, message)


def test_a_gap_between_the_blocks_is_refused(tmp_path):
    directory = changed_case(
        "llama2", tmp_path, lambda checkpoint: checkpoint.rename("model.layers.1.", "model.layers.2.")
    )
    refused(directory, TensorError, r"model.layers.1 has no tensor \(2 blocks are stored, 0 to 2\)")


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("llama2", "model.norm.weight"),
        ("llama2", "model.layers.1.mlp.down_proj.weight"),
        ("qwen2", "model.layers.0.self_attn.k_proj.bias"),
        ("qwen3", "model.layers.0.self_attn.q_norm.weight"),
        ("qwen3", "model.layers.1.self_attn.k_norm.weight"),
        ("smollm3", "model.layers.0.input_layernorm.weight"),
    ],
)
def test_every_tensor_that_the_architecture_requires_must_be_there(case, name, tmp_path):
    refused(
        changed_case(case, tmp_path, dropping(name)), TensorError, f"{name} is missing.*; the architecture requires"
    )


def test_biases_that_the_config_promises_are_required(tmp_path):
    directory = changed_case("llama2", tmp_path, lambda checkpoint: checkpoint.config.update(attention_bias=True))
    refused(directory, TensorError, "q_proj.bias is missing, which attention_bias in config.json asks for")


def test_a_tensor_without_a_place_is_refused(tmp_path):
    directory = changed_case("llama2", tmp_path, adding(**{"model.novelty.weight": ("F32", numpy.zeros(4, "<f4"))}))
    refused(directory, TensorError, r"model.novelty.weight has no place in the architecture llama \(1 tensors")


BUFFERS = {
    "model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", numpy.ones(32, dtype="<f4")),
    "model.embeddings.position_ids": ("I64", numpy.arange(8)),
    "model.unused": ("F32", numpy.zeros((0,), dtype="<f4")),
}


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_buffers_are_left_out_by_rule_and_said(prefix, tmp_path):
    def with_buffers(checkpoint):
        checkpoint.tensors |= BUFFERS
        checkpoint.rename("model.", prefix)

    directory = changed_case("llama2", tmp_path / "a", with_buffers)
    assert sorted(source_from_checkpoint(directory).notes) == [
        "left out 1 tensors: empty, they hold no weights",
        "left out 1 tensors: positions, which llama.cpp counts itself",
        "left out 1 tensors: rope frequencies, which llama.cpp computes itself",
    ]
    assert convert_edited(directory).read_bytes() == file_of("llama2", tmp_path / "b")


@pytest.mark.parametrize("names", [[FIRST_Q], [EMBEDDING], None])
def test_weights_without_elements_point_to_zero_3(names, tmp_path):
    def emptied(checkpoint):
        for name in names or list(checkpoint.tensors):
            replaced(checkpoint, name, numpy.zeros((0,), dtype="<u2"))

    refused(changed_case("llama2", tmp_path, emptied), TensorError, r"has shape \[0\].*zero_to_fp32")


def with_index(directory, extra):
    names = json.loads((directory / "model.safetensors").read_bytes()[8:].split(b"}}")[0] + b"}}")
    weight_map = dict.fromkeys([*names, *extra], "model.safetensors")
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return directory


def test_a_tensor_that_only_the_index_knows_is_refused_unless_it_is_not_needed(tmp_path):
    lost = with_index(changed_case("llama2", tmp_path / "a"), ["transformer.wte.weight"])
    refused(lost, CheckpointError, r"places transformer.wte.weight in model.safetensors, which does not hold it \(1 in")
    tied = with_index(changed_case("llama2", tmp_path / "b", tie), [OUTPUT, "model.rotary_emb.inv_freq"])
    assert convert_edited(tied).read_bytes() == file_of("llama2", tmp_path / "c", tie)


def test_a_tensor_that_the_index_forgot_follows_the_rule_of_unknown_ones(tmp_path):
    directory = changed_case("llama2", tmp_path, adding(**{"surplus.weight": ("F32", numpy.zeros(4, "<f4"))}))
    with_index(directory, [])
    index = directory / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    del weight_map["surplus.weight"]
    index.write_text(json.dumps({"weight_map": weight_map}))
    refused(directory, TensorError, "surplus.weight has no place")


def test_the_header_counts_generated_tensors_too(tmp_path):
    path = convert_edited(changed_case("llama3", tmp_path))
    count = int.from_bytes(path.read_bytes()[8:16], "little")
    file = read_gguf(path)
    assert count == len(file.tensors)
    assert "rope_freqs.weight" in file.tensors


# Order of rows


def grouped_heads_with_biases(checkpoint):
    """8 heads, 2 of keys, 32 long, every row of K and every bias with a number of its own."""
    checkpoint.config |= {"num_attention_heads": 8, "num_key_value_heads": 2, "attention_bias": True}
    for layer in range(2):
        for name, rows in (("q", 256), ("k", 64), ("v", 64)):
            numbers = numpy.arange(rows, dtype="<f4")
            prefix = f"model.layers.{layer}.self_attn.{name}_proj."
            replaced(checkpoint, prefix + "weight", numpy.repeat(numbers[:, None], 256, axis=1), "F32")
            replaced(checkpoint, prefix + "bias", numbers, "F32")
        replaced(checkpoint, f"model.layers.{layer}.self_attn.o_proj.bias", numpy.zeros(256, "<f4"), "F32")


def interleaved(rows, heads):
    return numpy.arange(rows).reshape(heads, 2, rows // heads // 2).swapaxes(1, 2).reshape(-1)


def floats(file, name):
    rows = file.tensors[name]
    return rows.read_rows(0, rows.shape[0] if len(rows.shape) > 1 else 1).copy().view("<f4").reshape(rows.shape)


@pytest.mark.parametrize(("case", "permuted"), [("llama2", True), ("qwen2", False)])
def test_rows_and_biases_of_q_and_k_are_permuted_by_their_own_number_of_heads(case, permuted, tmp_path):
    def change(checkpoint):
        grouped_heads_with_biases(checkpoint)
        if case == "qwen2":
            for layer in range(2):
                del checkpoint.tensors[f"model.layers.{layer}.self_attn.o_proj.bias"]

    file = gguf_of(case, tmp_path, change, "f32")
    for name, heads, rows in (("q", 8, 256), ("k", 2, 64)):
        order = interleaved(rows, heads) if permuted else numpy.arange(rows)
        assert numpy.array_equal(floats(file, f"blk.1.attn_{name}.bias"), order)
        assert numpy.array_equal(floats(file, f"blk.1.attn_{name}.weight")[:, 0], order)
    assert numpy.array_equal(floats(file, "blk.1.attn_v.bias"), numpy.arange(64))


# Dtypes and values


def test_float64_converts_through_float32(tmp_path):
    def doubled(checkpoint):
        for name, (_, bits) in list(checkpoint.tensors.items()):
            wide = (bits.astype("<u4") << 16).view("<f4").astype("<f8")
            replaced(checkpoint, name, wide, "F64")

    for profile in ("f32", "q8_0"):
        wide, plain = tmp_path / f"wide-{profile}", tmp_path / f"plain-{profile}"
        assert file_of("llama3", wide, doubled, profile) == file_of("llama3", plain, None, profile)


@pytest.mark.parametrize("dtype", ["U8", "I8", "I32", "F8_E4M3"])
def test_integers_without_a_description_are_refused(dtype, tmp_path):
    width = {"U8": "u1", "I8": "i1", "I32": "<i4", "F8_E4M3": "u1"}[dtype]
    directory = changed_case(
        "llama2", tmp_path, lambda checkpoint: replaced(checkpoint, FIRST_Q, numpy.zeros((256, 256), width), dtype)
    )
    refused(
        directory, TensorError, f"{FIRST_Q} is {dtype}, which does not hold plain weights; config.json has no quant"
    )


def test_an_unknown_dtype_is_refused_by_name(tmp_path):
    directory = changed_case("llama2", tmp_path)
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b'"dtype": "F16"', b'"dtype":"F6_X"', 1))
    refused(directory, CheckpointError, "has the dtype 'F6_X'")


def bits_of(value):
    return int(numpy.float32(value).view("<u4")) >> 16


def with_weight(value, dtype="BF16"):
    def change(checkpoint):
        _, rows = checkpoint.tensors["model.layers.0.mlp.down_proj.weight"]
        rows = rows.copy()
        rows[3, 5] = bits_of(value)
        replaced(checkpoint, "model.layers.0.mlp.down_proj.weight", rows, dtype)

    return change


@pytest.mark.parametrize(
    ("value_", "profile", "type_"), [(1e5, "f16", "F16"), (1e8, "q8_0", "Q8_0"), (1e8, "q4_k_m", "")]
)
def test_weights_beyond_f16_are_refused_with_the_way_out(value_, profile, type_, tmp_path):
    directory = changed_case("llama3", tmp_path, with_weight(value_))
    message = rf"blk.0.ffn_down.weight has weights too large for {type_}.*: \d+ would become infinite.*bf16 or f32"
    with pytest.raises(TensorError, match=message):
        convert_edited(directory, profile)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama3"]
    assert convert_edited(directory, "bf16").exists()
    assert convert_edited(directory, profile, allow_nan=True).exists()


@pytest.mark.parametrize("bad", [numpy.nan, numpy.inf, -numpy.inf])
@pytest.mark.parametrize("profile", ["bf16", "q4_k_m"])
def test_weights_that_are_not_finite_are_refused_unless_allowed(bad, profile, tmp_path):
    directory = changed_case("llama3", tmp_path, with_weight(bad))
    with pytest.raises(TensorError, match=r"blk.0.ffn_down.weight holds \d NaN and \d infinite weights.*--allow-nan"):
        convert_edited(directory, profile)
    assert convert_edited(directory, profile, allow_nan=True).exists()


def test_bfloat16_stays_bit_for_bit_and_only_nan_becomes_quiet(tmp_path):
    odd = numpy.array([0x0001, 0x807F, 0x8000, 0x0000, 0x7F7F, 0xFF7F, 0x0080], dtype="<u2")
    nans = numpy.array([0x7F81, 0xFFA5, 0x7FC0, 0xFFFF], dtype="<u2")
    name = "model.layers.0.mlp.down_proj.weight"

    def with_bits(*bits):
        def change(checkpoint):
            rows = checkpoint.tensors[name][1].copy()
            rows[0, : sum(map(len, bits))] = numpy.concatenate(bits)
            replaced(checkpoint, name, rows)

        return change

    def stored(root, change, **options):
        rows = read_gguf(convert_edited(changed_case("llama3", root, change), **options)).tensors[
            "blk.0.ffn_down.weight"
        ]
        return rows.read_rows(0, 1).copy().view("<u2")[0]

    assert numpy.array_equal(stored(tmp_path / "a", with_bits(odd))[:7], odd)
    allowed = stored(tmp_path / "b", with_bits(odd, nans), allow_nan=True)
    assert numpy.array_equal(allowed[:7], odd)
    assert numpy.array_equal(allowed[7:11], nans | 0x40)


# Rows that a type cannot hold


@pytest.mark.parametrize(
    ("columns", "fallback"), [(352, {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}), (40, {"Q4_K": "F16", "Q6_K": "F16"})]
)
@pytest.mark.parametrize("overrides", [[], ["ffn_down=q4_k"]])
def test_rows_that_are_no_whole_blocks_get_a_fallback_type(columns, fallback, overrides, tmp_path):
    def odd_rows(checkpoint):
        checkpoint.config["intermediate_size"] = columns
        for layer in range(2):
            prefix = f"model.layers.{layer}.mlp."
            for name, shape in (("gate", (columns, 256)), ("up", (columns, 256)), ("down", (256, columns))):
                replaced(checkpoint, f"{prefix}{name}_proj.weight", numpy.full(shape, 0x3C80, dtype="<u2"))

    source = source_from_checkpoint(changed_case("llama3", tmp_path, odd_rows))
    plan = plan_conversion(source, load_profile("q4_k_m"), None, [parse_override(text) for text in overrides])
    downs = [tensor for tensor in plan.tensors if "ffn_down" in tensor.name]
    assert [tensor.type.name for tensor in downs] == [fallback[tensor.fallback_from.name] for tensor in downs]
    assert 0 < plan.fallback_share < 1
    n_bytes, n_weights = sum(t.n_bytes for t in plan.tensors), sum(t.n_weights for t in plan.tensors)
    assert plan.bits_per_weight == pytest.approx(8 * n_bytes / n_weights)
    fallen = sum(t.n_weights for t in plan.tensors if t.fallback_from is not None)
    assert plan.fallback_share == fallen / n_weights


def test_the_rows_of_the_embedding_win_over_vocab_size(tmp_path):
    directory = changed_case("llama3", tmp_path, lambda checkpoint: checkpoint.config.update(vocab_size=512))
    assert any("vocab_size is 512" in warning for warning in source_from_checkpoint(directory).warnings)
    assert value(read_gguf(convert_edited(directory)), "llama.vocab_size") == 400
