"""Profiles give what llama-quantize gives, and files that are not understood are refused with their line."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_types_oracle import Tensors, dry_run_types, mock_types, write_header

from toolkit.errors import ProfileError, TensorError
from toolkit.gguf.ggml_types import BF16, F16, F32, TYPES, tensor_type
from toolkit.quant_profile import (
    EXAMPLE_MODELS,
    FILE_TYPES,
    LAYER_SETS,
    ROLES,
    ExampleModel,
    ModelTraits,
    QuantProfile,
    TypeOverride,
    assign_types,
    load_profile,
    parse_override,
    profile_names,
    profiles_folder,
)
from toolkit.quant_profile.profile import describe_rule, number_ranges
from toolkit.quant_profile.protected import ggml_dimensions

NAMES = (
    "F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0",
    "IQ4_NL", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS", "Q2_K", "Q2_K_S",
    "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S", "TQ1_0", "TQ2_0", "MXFP4_MOE",
)  # fmt: skip
"""Those that llama.cpp has too."""
OURS = ("KEEP",)
FLOATS = ("F32", "F16", "BF16")
QUANTIZED = [load_profile(name) for name in NAMES if name not in FLOATS]
LAYERS = (1, 2, 8, 22, 32)
KIT = Path(__file__).parents[1] / "kit" / "reference"


def llama(layers: int, heads: tuple[int, int], experts: int = 0, arch: str = "llama", **sizes: int) -> ExampleModel:
    traits = ModelTraits(arch, layers, *heads, experts)
    shape = {"hidden": 256, "feed_forward": 512, "head": 64, "vocabulary": 64} | sizes
    return ExampleModel("test", traits, **shape)  # type: ignore[arg-type]


def fused(model: ExampleModel) -> Tensors:
    """Return the tensors as Falcon has them: Q, K and V in one matrix, no gate."""
    drop = ("attn_k.", "attn_v.", "ffn_gate.")
    kept = [tensor for tensor in model.tensors() if not any(part in tensor[0] for part in drop)]
    return [(name.replace("attn_q.", "attn_qkv."), shape) for name, shape in kept]


def with_shared_experts(model: ExampleModel) -> Tensors:
    """Return the tensors with a shared expert and its gate in each block."""
    extra = [
        (f"blk.{block}.{name}.weight", shape)
        for block in range(model.traits.n_layer)
        for name, shape in (
            ("ffn_gate_inp_shexp", (1, model.hidden)),
            ("ffn_gate_shexp", (model.feed_forward, model.hidden)),
            ("ffn_up_shexp", (model.feed_forward, model.hidden)),
            ("ffn_down_shexp", (model.hidden, model.feed_forward)),
        )
    ]
    return [*model.tensors(), *extra]


def latent(model: ExampleModel) -> Tensors:
    """Return the tensors with latent attention in place of K and V, as DeepSeek has them."""
    made = []
    for name, shape in model.tensors():
        if "attn_v." in name:
            made.append((name.replace("attn_v.", "attn_kv_b."), shape))
        elif "attn_k." in name:
            made += [
                (name.replace("attn_k.", "attn_kv_a_mqa."), shape),
                (name.replace("attn_k.", "attn_k_b."), (4, 64, 256)),
            ]
        else:
            made.append((name, shape))
    return made


def shapes() -> Iterator[tuple[str, ModelTraits, Tensors]]:
    for layers in LAYERS:
        plain = {
            "mha": llama(layers, (4, 4)),
            "gqa 4": llama(layers, (8, 2), head=32),
            "gqa 8": llama(layers, (8, 1), head=32),
            "tied": replace(llama(layers, (4, 4)), tied=True),
            "8 experts": llama(layers, (4, 4), 8),
            "8 experts, gqa 4": llama(layers, (8, 2), 8, head=32),
            "64 experts": llama(layers, (4, 4), 64, "qwen3moe"),
            "rows of 576": replace(llama(layers, (9, 3), hidden=576, feed_forward=1536), tied=True),
            "rows of 576, untied": llama(layers, (9, 3), hidden=576, feed_forward=1536),
            "ffn_down of 352": llama(layers, (4, 4), feed_forward=352),
            "ffn_down of 40": llama(layers, (4, 4), feed_forward=40),
            "everything of 40": replace(llama(layers, (4, 4), hidden=40, head=10, feed_forward=40), tied=True),
            "mxfp4 experts of 16": llama(layers, (4, 4), 4, feed_forward=16),
        }
        for words, model in plain.items():
            yield f"{words}, {layers} layers", model.traits, model.tensors()
        falcon = llama(layers, (8, 1), arch="falcon", head=32)
        yield f"falcon, {layers} layers", falcon.traits, fused(falcon)
        yield f"falcon tied, {layers} layers", falcon.traits, fused(replace(falcon, tied=True))
        yield f"falcon unfused with 8 experts, {layers} layers", replace(falcon.traits, n_expert=8), falcon.tensors()
        shared = llama(layers, (4, 2), 8, "qwen2moe")
        yield f"shared experts, {layers} layers", shared.traits, with_shared_experts(shared)
        deepseek = llama(layers, (4, 4), 8, "deepseek2")
        yield f"latent attention, {layers} layers", deepseek.traits, latent(deepseek)
    for name in ("llama-3.1-70b", "mixtral-8x7b", "smollm2-135m"):
        yield name, EXAMPLE_MODELS[name].traits, EXAMPLE_MODELS[name].tensors()


SHAPES = list(shapes())


def differences(profile: QuantProfile, ours: dict, theirs: dict) -> list[str]:
    return [
        f"{profile.name} {name}: {ours[name].type.name}, llama.cpp {type_.name}"
        for name, type_ in theirs.items()
        if ours[name].type is not type_
    ]


@pytest.mark.parametrize(("traits", "tensors"), [shape[1:] for shape in SHAPES], ids=[shape[0] for shape in SHAPES])
def test_every_profile_gives_the_types_of_llama_quantize(traits: ModelTraits, tensors: Tensors) -> None:
    theirs = mock_types([profile.file_type for profile in QUANTIZED], tensors, traits)
    for profile in QUANTIZED:
        ours = assign_types(profile, tensors, traits)
        assert theirs[profile.file_type].keys() <= ours.keys()
        assert differences(profile, ours, theirs[profile.file_type]) == []


DRY_RUNS = {
    "llama": llama(16, (4, 4)),
    "llama, gqa 4": llama(16, (8, 2), head=32),
    "llama 70B": llama(80, (8, 2), head=32),
    "llama 65B": llama(80, (4, 4)),
    "qwen2 72B": llama(80, (8, 2), arch="qwen2", head=32),
    "mixtral": llama(32, (4, 4), 8),
    "qwen3moe": llama(24, (8, 2), 64, "qwen3moe", head=32),
    "falcon": llama(16, (8, 2), arch="falcon", head=32),
}


@pytest.mark.parametrize("words", DRY_RUNS)
@pytest.mark.parametrize("has_imatrix", [False, True], ids=["without imatrix", "with imatrix"])
def test_a_dry_run_of_llama_quantize_gives_the_same_types(tmp_path: Path, words: str, has_imatrix: bool) -> None:
    model = DRY_RUNS[words]
    tensors = fused(model) if model.traits.architecture == "falcon" else model.tensors()
    if model.traits.n_layer == 80:
        tensors = [tensor for tensor in tensors if "blk" not in tensor[0] or "attn_v" in tensor[0]]
    write_header(tmp_path / "model.gguf", tensors, model.traits)
    for profile in QUANTIZED:
        theirs = dry_run_types(tmp_path / "model.gguf", profile.file_type, imatrix=["some"] if has_imatrix else [])
        ours = assign_types(profile, tensors, model.traits, has_imatrix)
        assert theirs.keys() == ours.keys()
        quantized = {name: type_ for name, type_ in theirs.items() if ours[name].quantizable}
        assert differences(profile, ours, quantized) == []


def test_an_importance_matrix_changes_the_types_of_five_profiles() -> None:
    model = llama(16, (4, 4))

    def types(profile: QuantProfile, has_imatrix: bool) -> list[str]:
        return [
            choice.type.name for choice in assign_types(profile, model.tensors(), model.traits, has_imatrix).values()
        ]

    changed = {profile.name for profile in QUANTIZED if types(profile, True) != types(profile, False)}
    assert changed == {"Q4_0", "Q5_0", "IQ4_NL", "IQ4_XS", "IQ3_XXS"}


@pytest.mark.parametrize(
    "words", ["8 experts, 8 layers", "mha, 22 layers", "rows of 576, 8 layers", "falcon, 8 layers"]
)
@pytest.mark.parametrize(
    "text", ["ffn_down=q4_k", r"blk\.[01]\..*=q6_k", "attn_(v|qkv)=iq3_s", "token_embd=q8_0", "ffn_up=f16"]
)
def test_overrides_count_as_they_do_in_llama_quantize(words: str, text: str) -> None:
    traits, tensors = next(shape[1:] for shape in SHAPES if shape[0] == words)
    override = parse_override(text)
    theirs = mock_types(
        [profile.file_type for profile in QUANTIZED], tensors, traits, [(override.pattern, override.type)]
    )
    for profile in QUANTIZED:
        ours = assign_types(profile, tensors, traits, overrides=[override])
        assert differences(profile, ours, theirs[profile.file_type]) == []


@st.composite
def models(draw: st.DrawFn) -> tuple[ModelTraits, Tensors]:
    layers, heads = draw(st.integers(1, 48)), draw(st.sampled_from([1, 2, 4, 9, 12, 32]))
    kv_heads = draw(st.sampled_from([1, 2, 3, 4, 8, 32]))
    experts = draw(st.sampled_from([0, 0, 1, 2, 4, 7, 8, 16, 64]))
    arch = draw(st.sampled_from(["llama", "falcon", "qwen3moe", "gemma3", "mamba", "bailingmoe3", "deepseek2"]))
    rows = st.sampled_from([8, 40, 96, 256, 352, 576, 768])
    sizes = {"hidden": draw(rows), "feed_forward": draw(rows), "head": draw(st.sampled_from([8, 32, 64]))}
    model = replace(llama(layers, (heads, kv_heads), experts, arch, **sizes), tied=draw(st.booleans()))
    style = draw(st.sampled_from([ExampleModel.tensors, fused, with_shared_experts, latent]))
    lacking = tuple(f"blk.{block}.ffn_down" for block in draw(st.sets(st.integers(0, 48), max_size=4)))
    tensors = [tensor for tensor in style(model) if not tensor[0].startswith(lacking or ("none",))]
    return model.traits, draw(st.permutations(tensors)) if len(tensors) < 40 else tensors


@settings(max_examples=25, deadline=None)
@given(models(), st.sets(st.sampled_from(range(len(QUANTIZED))), min_size=4, max_size=8))
def test_any_shape_gets_the_types_of_llama_quantize(model: tuple[ModelTraits, Tensors], numbers: set[int]) -> None:
    traits, tensors = model
    profiles = [QUANTIZED[number] for number in numbers]
    theirs = mock_types([profile.file_type for profile in profiles], tensors, traits)
    for profile in profiles:
        assert differences(profile, assign_types(profile, tensors, traits), theirs[profile.file_type]) == []


@pytest.mark.parametrize("architecture", ["glm5-next", "llama", "gemma3n", "rwkv6", "minimax-m3", "bert"])
def test_tensors_of_special_names_are_treated_as_llama_quantize_does(architecture: str) -> None:
    parts = ("attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_k_b", "attn_v_b", "nextn.eh_proj", "hc_attn_fn", "indexer.proj", "indexer.k_proj", "indexer.attn_k", "ssm_f_a", "ssm_beta", "ssm_conv1d", "ssm_conv1d_q", "ssm_in", "ssm_out", "shortconv.conv", "shortconv.in_proj", "time_mix_w1", "time_mix_key", "time_mix_lerp_fused", "altup_router", "altup_predict_coef", "laurel_l", "inp_gate", "proj", "ffn_gate_inp", "ffn_gate_tid2eid", "attn_rel_b", "attn_gate", "ffn_gate_up_exps")  # fmt: skip
    outside = [
        "per_layer_token_embd",
        "per_layer_model_proj",
        "position_embd",
        "token_types",
        "altup_proj",
        "token_embd",
    ]
    names = [
        *(f"blk.0.{part}.weight" for part in parts),
        *(f"{name}.weight" for name in outside),
        "v.blk.0.attn_v.weight",
    ]
    tensors = [(name, (256, 256)) for name in names] + [("blk.0.attn_q.bias", (2, 256)), ("blk.0.odd.weight", (1, 256))]
    traits = ModelTraits(architecture, 1, 4, 4)
    profiles = [profile for profile in QUANTIZED if not profile.quantize_all]
    theirs = mock_types([profile.file_type for profile in profiles], tensors, traits)
    for profile in profiles:
        ours = assign_types(profile, tensors, traits)
        assert theirs[profile.file_type].keys() == {name for name, choice in ours.items() if choice.quantizable}
        assert differences(profile, ours, theirs[profile.file_type]) == []


def kit_cases() -> list[str]:
    return sorted(path.name for path in KIT.iterdir() if path.is_dir())


@pytest.mark.parametrize("profile_name", ["F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("case", kit_cases())
def test_types_of_the_kit_are_those_of_the_reference_converter(case: str, profile_name: str) -> None:
    document = json.loads((KIT / case / f"{profile_name.lower()}.json").read_text("utf-8"))
    metadata = {key: entry.get("value") for key, entry in document["metadata"].items()}
    architecture = metadata["general.architecture"]
    tensors = [(tensor["name"], tuple(reversed(tensor["shape"]))) for tensor in document["tensors"]]
    traits = ModelTraits(architecture, metadata[f"{architecture}.block_count"], 1, 1)
    choices = assign_types(load_profile(profile_name), tensors, traits)
    expected = {tensor["name"]: tensor["type"] for tensor in document["tensors"] if tensor["type"] != "MXFP4"}
    assert {name: choices[name].type.name for name in expected} == expected


def test_a_tensor_that_is_never_quantized_is_f32_or_what_the_caller_says() -> None:
    tensors = [
        ("blk.0.attn_norm.weight", (256,)),
        ("blk.0.ffn_gate_inp.weight", (8, 256)),
        ("per_layer_model_proj.weight", (256, 256)),
        ("blk.0.laurel_l.weight", (64, 256)),
        ("blk.0.ffn_up.weight", (256, 256)),
    ]
    traits = ModelTraits("gemma3n", 1, 4, 4)
    choices = assign_types(load_profile("q4_k_m"), tensors, traits)
    assert [choice.type.name for choice in choices.values()] == ["F32", "F32", "BF16", "BF16", "Q4_K"]
    assert [choice.quantizable for choice in choices.values()] == [False, False, False, False, True]
    as_f16 = assign_types(load_profile("q4_k_m"), tensors, traits, unquantized=F16)
    assert as_f16["per_layer_model_proj.weight"].type is F16
    assert as_f16["blk.0.ffn_gate_inp.weight"].type is F32


def test_dbrx_keeps_its_router_in_the_source_type() -> None:
    tensors = [("blk.0.ffn_gate_inp.weight", (8, 256))]
    choices = assign_types(load_profile("q4_k_m"), tensors, ModelTraits("dbrx", 1, 4, 4, 8))
    assert choices["blk.0.ffn_gate_inp.weight"].type is BF16


def test_the_order_of_the_answer_is_the_order_of_the_question() -> None:
    tensors = list(reversed(EXAMPLE_MODELS["llama-3.2-1b"].tensors()))
    choices = assign_types(load_profile("q4_k_m"), tensors, EXAMPLE_MODELS["llama-3.2-1b"].traits)
    assert list(choices) == [name for name, _ in tensors]


@pytest.mark.parametrize(
    ("wanted", "fits_32", "fits_nothing"),
    [("Q4_K", "Q5_0", "F16"), ("Q5_K", "Q5_1", "F16"), ("Q6_K", "Q8_0", "F16"), ("IQ4_XS", "IQ4_NL", "F16"),
     ("Q2_K", "Q4_0", "F16"), ("TQ1_0", "Q4_0", "F16"), ("IQ1_S", "IQ4_NL", "F16"), ("Q4_0", "Q4_0", "F16")],
)  # fmt: skip
def test_rows_that_do_not_fit_fall_back(wanted: str, fits_32: str, fits_nothing: str) -> None:
    tensors = [("blk.0.ffn_down.weight", (256, 352)), ("blk.1.ffn_down.weight", (256, 40))]
    overrides = [TypeOverride("ffn_down", tensor_type(wanted))]
    choices = list(
        assign_types(load_profile("q4_k_m"), tensors, ModelTraits("llama", 2, 4, 4), False, overrides).values()
    )
    assert [choice.type.name for choice in choices] == [fits_32, fits_nothing]
    assert choices[1].fallback_from is TYPES[wanted]
    assert "rows of 40 are not whole" in choices[1].why


def test_the_first_override_that_matches_wins() -> None:
    model = llama(2, (4, 4))
    overrides = [parse_override("blk.0.ffn_down=q6_k"), parse_override("ffn_down=Q8_0"), parse_override("ffn_up=bf16")]
    choices = assign_types(load_profile("q4_k_m"), model.tensors(), model.traits, False, overrides)
    found = [choices[f"blk.{block}.{name}.weight"].type.name for block in (0, 1) for name in ("ffn_down", "ffn_up")]
    assert found == ["Q6_K", "BF16", "Q8_0", "BF16"]
    assert choices["blk.0.ffn_down.weight"].why == "override blk.0.ffn_down=Q6_K"


@pytest.mark.parametrize("pattern", ["ffn_dwn", "attn_norm"])
def test_an_override_that_matches_nothing_is_refused(pattern: str) -> None:
    model = llama(2, (4, 4))
    with pytest.raises(ProfileError, match=f"'{pattern}=Q4_K' matches no tensor that can be quantized"):
        assign_types(load_profile("q4_k_m"), model.tensors(), model.traits, False, [parse_override(f"{pattern}=q4_k")])


def test_overrides_hold_for_a_16_bit_file_too() -> None:
    model = llama(1, (4, 4))
    choices = assign_types(load_profile("bf16"), model.tensors(), model.traits, False, [parse_override("ffn_up=q8_0")])
    assert choices["blk.0.ffn_up.weight"].type.name == "Q8_0"
    assert choices["blk.0.ffn_gate.weight"].type is BF16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ffn_down", "expected PATTERN=TYPE"),
        ("=q4_k", "expected PATTERN=TYPE"),
        ("ffn_down=q9_k", "'q9_k' is not a tensor type"),
        ("ffn_down=", "'' is not a tensor type"),
        ("ffn_(down=q4_k", "is not a regular expression"),
        ("ffn_down=i32", "weights cannot be stored as I32"),
    ],
)
def test_an_override_of_another_form_is_refused(text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=re.escape(message)):
        parse_override(text)


def test_a_block_beyond_the_model_is_refused() -> None:
    tensors = [("blk.5.ffn_down_exps.weight", (4, 256, 256))]
    with pytest.raises(TensorError, match=r"blk\.5\.ffn_down_exps\.weight: block 5, but the model has only 4"):
        assign_types(load_profile("q4_k_m"), tensors, ModelTraits("llama", 4, 4, 4, 4))


def test_leading_axes_of_one_do_not_count_as_ggml_counts() -> None:
    assert [ggml_dimensions(shape) for shape in [(1,), (5,), (1, 5), (5, 1), (1, 1), (2, 1, 5)]] == [1, 1, 1, 2, 1, 3]


def test_all_profiles_are_there() -> None:
    assert profile_names() == sorted((*NAMES, *OURS))
    assert {path.name for path in profiles_folder().iterdir()} == {f"{name.lower()}.toml" for name in (*NAMES, *OURS)}


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_says_about_itself_what_is_so(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.file_type_name == ("ALL_F32" if name == "F32" else f"MOSTLY_{name}")
    assert FILE_TYPES[profile.file_type_name] == profile.file_type
    assert profile.summary
    for model in EXAMPLE_MODELS.values():
        choices = assign_types(profile, model.tensors(), model.traits).values()
        if all(shape[-1] % 256 == 0 for _, shape in model.tensors()):
            assert profile.needs_imatrix == any(choice.needs_imatrix for choice in choices)


def test_q2_k_needs_an_importance_matrix_only_in_q2_k_s() -> None:
    tensors = [("blk.0.ffn_up.weight", (256, 256))]
    for name, needs in (("q2_k", False), ("q2_k_s", True)):
        choices = assign_types(load_profile(name), tensors, ModelTraits("llama", 1, 4, 4))
        assert choices["blk.0.ffn_up.weight"].type.name == "Q2_K"
        assert choices["blk.0.ffn_up.weight"].needs_imatrix is needs


def test_embeddings_and_output_never_need_an_importance_matrix() -> None:
    tensors = [("token_embd.weight", (64, 256)), ("output.weight", (64, 256))]
    overrides = [parse_override(".=iq2_xxs")]
    choices = assign_types(load_profile("iq2_xxs"), tensors, ModelTraits("llama", 1, 4, 4), False, overrides)
    assert [choice.needs_imatrix for choice in choices.values()] == [False, False]


@pytest.mark.parametrize("name", ["q4_k_m", "Q4_K_M", "Q4_k_m"])
def test_a_name_is_found_in_any_case(name: str) -> None:
    assert load_profile(name).name == "Q4_K_M"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("q4_k", "did you mean Q4_K_S or Q4_K_M"),
        ("q4km", "Q4_K_M"),
        ("zzzzzz", "known: BF16, F16, F32, IQ1_M"),
        ("", "known:"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ProfileError, match=f"there is no profile '{name}'; .*{message}"):
        load_profile(name)


def test_rules_for_single_tensors_and_blocks_can_be_written(tmp_path: Path) -> None:
    profile = load_profile(
        str(
            write(
                tmp_path,
                'name = "mine"\nfile_type = "MOSTLY_Q4_K_M"\ndefault = "q4_k"\n'
                '[[rules]]\nrole = "ffn_down"\nblocks = [0, 1, 3]\ntype = "q6_k"\n'
                "[[rules]]\nname = '^blk\\.2\\.attn_(q|k)\\.'\ntype = \"q5_k\"\n"
                '[[rules]]\nrole = ["token_embd", "output"]\ntied = true\ntype = "q8_0"\n',
            )
        )
    )
    model = replace(llama(4, (4, 4)), tied=True)
    choices = assign_types(profile, model.tensors(), model.traits)
    others = {name: choice.type.name for name, choice in choices.items() if choice.type.name not in ("Q4_K", "F32")}
    assert others == {
        "token_embd.weight": "Q8_0",
        "blk.0.ffn_down.weight": "Q6_K",
        "blk.1.ffn_down.weight": "Q6_K",
        "blk.3.ffn_down.weight": "Q6_K",
        "blk.2.attn_q.weight": "Q5_K",
        "blk.2.attn_k.weight": "Q5_K",
    }
    assert choices["blk.0.ffn_down.weight"].why == "ffn_down in blocks 0-1, 3"


HEAD = 'name = "mine"\nfile_type = "MOSTLY_Q4_K_M"\ndefault = "Q4_K"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (HEAD + 'colour = "red"\n', 4, "unknown key 'colour'"),
        (HEAD + "need_imatrix = true\n", 4, "unknown key 'need_imatrix'; did you mean needs_imatrix?"),
        (HEAD + '\n[[rules]]\nrole = "output"\ntype = "Q6_K"\n[[rules]]\nrole = "ffn_dwn"\ntype = "Q6_K"\n', 9,
         "role: 'ffn_dwn' is unknown; did you mean ffn_down"),
        (HEAD + '[[rules]]\nlayers = "first_half"\ntype = "Q6_K"\n', 5, "layers: 'first_half' is unknown"),
        (HEAD + '[[rules]]\nrole = "output"\ntype = "Q9_K"\n', 6, "type: 'Q9_K' is not a tensor type"),
        (HEAD + '[[rules]]\nrole = "output"\ntype = "I8"\n', 6, "type: weights cannot be stored as I8"),
        (HEAD + '[[rules]]\nrole = "output"\n', 4, "the rule has no type"),
        (HEAD + '[[rules]]\nexperts = "8"\ntype = "Q6_K"\n', 5, "experts: expected a whole number of at least 1, found '8'"),
        (HEAD + '[[rules]]\ngqa_at_least = true\ntype = "Q6_K"\n', 5, "gqa_at_least: expected a whole number of at least 1"),
        (HEAD + '[[rules]]\nimatrix = 1\ntype = "Q6_K"\n', 5, "imatrix: expected true or false, found 1"),
        (HEAD + '[[rules]]\nrole = []\ntype = "Q6_K"\n', 5, "role: expected at least one"),
        (HEAD + '[[rules]]\nblocks = [-1]\ntype = "Q6_K"\n', 5, "blocks: expected block numbers"),
        (HEAD + '[[rules]]\nname = "("\ntype = "Q6_K"\n', 5, "name: '(' is not a regular expression"),
        (HEAD + '[[rules]]\narchitecture = 7\ntype = "Q6_K"\n', 5, "architecture: expected text in quotes, found 7"),
        (HEAD + '[[rules]]\nmodel_size = "7B"\ntype = "Q6_K"\n', 5, "model_size: '7B' is unknown; did you mean 70B?"),
        (HEAD + 'rules = [{role = "output", tipe = "Q6_K", type = "Q6_K"}]\n', 4, "unknown key 'tipe'; did you mean type"),
        (HEAD + "rules = 5\n", 4, "expected [[rules]] tables"),
        (HEAD.replace("MOSTLY_Q4_K_M", "Q4_K_M"), 2, "file_type: 'Q4_K_M' is unknown; did you mean MOSTLY_Q4_K_M"),
        (HEAD.replace('"mine"', "5"), 1, "name: expected text in quotes, found 5"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_with_file_and_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ProfileError) as caught:
        load_profile(str(path))
    assert str(caught.value).startswith(f"{path}, line {line}: {message}")


def test_the_pattern_of_a_profile_is_matched_in_linear_time(tmp_path: Path) -> None:
    profile = load_profile(str(write(tmp_path, HEAD + '[[rules]]\nname = "^(a+)+[.]weight$"\ntype = "Q6_K"\n')))
    tensors = [("a" * 5000 + "!.weight", (256, 256)), ("a.weight", (256, 256))]
    types = [choice.type.name for choice in assign_types(profile, tensors, ModelTraits("llama", 1, 1, 1)).values()]
    assert types[0] != types[1] == "Q6_K"


def test_a_syntax_error_says_where(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"mine\.toml: not valid TOML: .*line 4"):
        load_profile(str(write(tmp_path, HEAD + "[[rules\n")))


@pytest.mark.parametrize("key", ["name", "file_type", "default"])
def test_a_profile_without_its_head_is_refused(tmp_path: Path, key: str) -> None:
    text = "".join(line + "\n" for line in HEAD.splitlines() if not line.startswith(key))
    with pytest.raises(ProfileError, match=f"'{key}' is missing"):
        load_profile(str(write(tmp_path, text)))


def test_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    text = (profiles_folder() / "q4_k_m.toml").read_text("utf-8")
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load_profile(str(path)) == load_profile("q4_k_m")
    path.write_bytes(b"\xef\xbb\xbf" + (HEAD + "x = 1\n").replace("\n", "\r\n").encode())
    with pytest.raises(ProfileError, match="line 4: unknown key 'x'"):
        load_profile(str(path))


def test_utf_16_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(HEAD.encode("utf-16"))
    with pytest.raises(ProfileError, match="not UTF-8"):
        load_profile(str(path))


def test_a_file_that_is_missing_or_huge_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"absent\.toml: the profile cannot be read"):
        load_profile(str(tmp_path / "absent.toml"))
    path = write(tmp_path, "#" * (1 << 20) + "\n")
    with pytest.raises(ProfileError, match="larger than 1048576 bytes"):
        load_profile(str(path))


def test_a_profile_of_the_toolkit_can_be_copied_and_loaded_by_path(tmp_path: Path) -> None:
    for name in NAMES:
        copied = shutil.copy(profiles_folder() / f"{name.lower()}.toml", tmp_path)
        assert load_profile(str(copied)) == load_profile(name)


def test_every_layer_set_and_role_is_used_by_a_profile_or_documented_as_extra() -> None:
    rules = [rule for name in NAMES for rule in load_profile(name).rules]
    assert {rule.layers or rule.tensors for rule in rules} - {None} == set(LAYER_SETS)
    assert {role for rule in rules for role in rule.role} == set(ROLES) - {"other"}


def test_layer_sets_are_what_they_are_called() -> None:
    members = {name: [i for i in range(16) if layers.holds(i, 16)] for name, layers in LAYER_SETS.items()}
    assert members == {
        "first_two": [0, 1],
        "first_four": [0, 1, 2, 3],
        "first_sixteenth": [0],
        "first_eighth": [0, 1],
        "middle": list(range(2, 14)),
        "more_bits": [0, 1, 4, 7, 10, 13, 14, 15],
    }


def test_rules_can_be_read_as_sentences() -> None:
    sentences = [describe_rule(rule) for rule in load_profile("iq2_xs").rules]
    assert sentences[:3] == [
        "Q2_K for token_embd",
        "Q8_0 for output if the architecture is falcon",
        "Q8_0 for output with rows that are not a multiple of 256",
    ]
    assert "Q4_K for attn_v, attn_qkv and attn_kv_b if 4 or more heads share a KV head" in sentences
    assert "MXFP4 for ffn_up, ffn_gate and ffn_down of all experts together" in [
        describe_rule(rule) for rule in load_profile("mxfp4_moe").rules
    ]
    assert number_ranges([5, 0, 1, 2, 9]) == "0-2, 5, 9"


def test_a_name_pattern_that_matches_no_tensor_is_refused_with_its_line(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "Mine"\nsummary = "mine"\nfile_type = "MOSTLY_Q4_K_M"\ndefault = "Q4_K"\n'
        '\n[[rules]]\ntype = "Q6_K"\nname = "no_such_tensor"\n'
    )
    with pytest.raises(ProfileError, match=r"mine.toml, line 8: name 'no_such_tensor' matches no tensor of this model"):
        assign_types(load_profile(str(path)), [("blk.0.ffn_down.weight", (256, 256))], ModelTraits("llama", 1, 4, 4))
