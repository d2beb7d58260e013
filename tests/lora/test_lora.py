"""PEFT adapters: the file that llama.cpp's own converter makes of them, and logits of the merged model."""

import ctypes
import hashlib
import json
import shutil
from pathlib import Path

import numpy
import pytest
from editable_checkpoint import edit_case, read_safetensors, write_safetensors
from logits import token_ids
from lora_adapters import ATTENTION, MLP, AdapterShape, adapted, floats, make_adapter
from twins import convert_edited

from toolkit.conversion.convert import write_gguf
from toolkit.errors import CheckpointError, ConfigError, TensorError
from toolkit.gguf.reader import read_gguf
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.lora import plan_adapter, read_adapter

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "lora.json").read_text(encoding="utf-8"))
EXPERTS = ("w1", "w2", "w3", "gate")
SHAPES = {
    "llama3": AdapterShape((*ATTENTION, *MLP)),
    "llama2": AdapterShape((*ATTENTION, "embed_tokens", "lm_head"), dtype="BF16"),
    "mistral": AdapterShape((*ATTENTION, *MLP), rank=8),
    "qwen2": AdapterShape(ATTENTION),
    "qwen3": AdapterShape((*ATTENTION, *MLP)),
    "gemma2": AdapterShape((*ATTENTION, *MLP)),
    "gemma3": AdapterShape((*ATTENTION, *MLP)),
    "mixtral": AdapterShape((*ATTENTION, *EXPERTS)),
    "phi3": AdapterShape(("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    "qwen3_5": AdapterShape(
        (*ATTENTION, *MLP, "in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "linear_attn.out_proj")
    ),
}
"""Adapted modules by case; tests/golden/README.md says how the golden file was made of them."""


def converted_adapter(directory, base, output, profile="f32"):
    plan, _ = plan_adapter(read_adapter(directory), base, profile)
    write_gguf(plan, output)
    return output


@pytest.mark.parametrize("case", SHAPES)
def test_every_key_and_tensor_equals_the_reference(case, tmp_path):
    base = edit_case(case, tmp_path)
    adapter = make_adapter(base, tmp_path / f"adapter-{case}", SHAPES[case])
    file = read_gguf(converted_adapter(adapter, base.directory, tmp_path / "out.gguf"))
    assert {key: [value.type.name, value.value] for key, value in file.metadata.items()} == GOLDEN[case]["metadata"]
    assert {
        name: [rows.type.name, list(rows.shape), hashlib.sha256(rows.data).hexdigest()]
        for name, rows in file.tensors.items()
    } == GOLDEN[case]["tensors"]


def logits(model, adapter=None):
    """Return the logits of the kit's tokens, with an adapter if there is one."""
    with LlamaRuntime(model, RunSettings(n_ctx=64, n_threads=1)) as runtime:
        if adapter is not None:
            library = runtime._library
            loaded = library.llama_adapter_lora_init(runtime._model, str(adapter).encode())
            assert loaded, "llama.cpp refused the adapter"
            adapters, scales = (ctypes.POINTER(ctypes.c_void_p) * 1)(loaded), (ctypes.c_float * 1)(1.0)
            assert library.llama_set_adapters_lora(runtime._context, adapters, 1, scales) == 0
        return runtime.evaluate([int(token) for token in token_ids()], slice(None)).copy()


def merged(base, adapter, shape, scales):
    """Return the file of the base with B A times the scale added to its weights, in float32."""
    stored = edit_case(base.directory.name, adapter.parent / "merged")
    lora = {name: floats(*tensor) for name, tensor in stored_adapter(adapter).items()}
    for module in adapted(base, shape):
        weight = floats(*stored.tensors[f"{module}.weight"]).astype("f8")
        a, b = (lora[name].astype("f8") for name in names_of(module))
        change = (b @ a) * scales(module, b.shape[1])
        weight += change.T if module.endswith("embed_tokens") else change
        stored.tensors[f"{module}.weight"] = ("F32", weight.astype("f4"))
    return convert_edited(stored.save(), "f32")


def stored_adapter(adapter):
    return read_safetensors(adapter / "adapter_model.safetensors")


def names_of(module):
    sides = (
        ("lora_embedding_A", "lora_embedding_B")
        if module.endswith("embed_tokens")
        else ("lora_A.weight", "lora_B.weight")
    )
    return [f"base_model.model.{module}.{side}" for side in sides]


PATTERNS = {"use_rslora": True, "alpha_pattern": {"q_proj": 3, "layers.1.mlp.*": 20}}


@pytest.mark.parametrize(
    ("case", "shape", "scales"),
    [
        ("llama3", SHAPES["llama3"], lambda _module, rank: 8 / rank),
        ("llama2", SHAPES["llama2"], lambda _module, rank: 8 / rank),
        ("qwen3", SHAPES["qwen3"], lambda _module, rank: 8 / rank),
        ("gemma3", SHAPES["gemma3"], lambda _module, rank: 8 / rank),
        ("mistral", SHAPES["mistral"], lambda _module, rank: 8 / rank),
        ("mixtral", SHAPES["mixtral"], lambda _module, rank: 8 / rank),
        (
            "llama3",
            AdapterShape((*ATTENTION, *MLP), ranks={"v_proj": 2, "up_proj": 16}, settings=PATTERNS),
            lambda module, rank: (20 if "layers.1.mlp" in module else 3 if "q_proj" in module else 8) / rank**0.5,
        ),
    ],
    ids=[
        "llama3",
        "llama2 with embedding",
        "qwen3",
        "gemma3",
        "mistral",
        "mixtral",
        "rank-stabilized, of several ranks and alphas",
    ],
)
def test_the_logits_with_the_adapter_are_those_of_the_merged_model(case, shape, scales, converted, tmp_path):
    base = edit_case(case, tmp_path)
    adapter = make_adapter(base, tmp_path / "adapter", shape)
    plain = logits(converted(case, "f32"))
    adapted_logits = logits(converted(case, "f32"), converted_adapter(adapter, base.directory, tmp_path / "a.gguf"))
    expected = logits(merged(base, adapter, shape, scales))
    effect = numpy.abs(expected - plain).max()
    assert effect > 0.5, "an adapter without effect tests nothing"
    assert numpy.abs(adapted_logits - expected).max() < 1e-3 * effect


@pytest.fixture
def base(tmp_path):
    return edit_case("llama3", tmp_path)


SMALL = AdapterShape(("q_proj",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'; only LORA can be applied by llama.cpp: merge it into its base"),
        ({"use_dora": True}, "the adapter is DoRA, which scales whole rows of the weights; llama.cpp cannot apply it"),
        ({"bias": "lora_only"}, "bias is 'lora_only'; llama.cpp applies no biases of adapters"),
        ({"lora_alpha": 0}, "lora_alpha is 0, expected a number above 0"),
        ({"r": "8"}, "r is '8', expected a number above 0"),
        ({"alpha_pattern": {"q_proj": -1}}, "q_proj is -1, expected a number above 0"),
        ({"alpha_pattern": {"(": 1}}, r"alpha_pattern has '\(', which is not a pattern"),
        ({"invocation_string": "<|x|>"}, "invocation_string without alora_invocation_tokens"),
    ],
)
def test_settings_that_llama_cpp_does_not_know_are_refused(changes, message, base, tmp_path):
    directory = make_adapter(base, tmp_path / "adapter", SMALL, **changes)
    with pytest.raises(ConfigError, match=message):
        read_adapter(directory)


def with_tensors(adapter, change):
    tensors = stored_adapter(adapter)
    change(tensors)
    write_safetensors(adapter / "adapter_model.safetensors", tensors)
    return adapter


FULL = ("F32", numpy.zeros((4, 4), "f4"))
Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: tensors.update(
                {
                    "base_model.model.lm_head.weight": FULL,
                    "base_model.model.model.embed_tokens.modules_to_save.weight": FULL,
                }
            ),
            r"replaces whole weights \(lm_head, model.embed_tokens\), which llama.cpp cannot apply: merge it into its base",
        ),
        (lambda tensors: tensors.update({f"{Q}.lora_magnitude_vector": FULL}), "the adapter is DoRA"),
        (lambda tensors: tensors.update({f"{Q}.lora_B.bias": FULL}), r"replaces whole weights \(.*q_proj.lora_B\)"),
        (lambda tensors: tensors.pop(f"{Q}.lora_B.weight"), "q_proj has no lora_B; the adapter is damaged"),
        (lambda tensors: tensors.update({f"{Q}.lora_A.other.weight": FULL}), "q_proj has two lora_A"),
        (
            lambda tensors: tensors.update({f"{Q}.lora_A.weight": (*FULL[:1], FULL[1][:3])}),
            r"lora_A is \[3, 4\] and lora_B",
        ),
    ],
)
def test_tensors_that_are_no_pairs_are_refused_by_name(change, message, base, tmp_path):
    directory = with_tensors(make_adapter(base, tmp_path / "adapter", SMALL), change)
    with pytest.raises(TensorError, match=message):
        read_adapter(directory)


def test_an_adapter_of_another_base_is_refused(base, kit_checkpoint, tmp_path):
    adapter = read_adapter(make_adapter(base, tmp_path / "adapter", AdapterShape(("k_proj",))))
    with pytest.raises(
        TensorError, match=r"k_proj is not a module of gpt2 .* is this the base that the adapter was trained on"
    ):
        plan_adapter(adapter, kit_checkpoint("gpt2"), "f32")
    base.config["num_key_value_heads"] *= 2
    with pytest.raises(TensorError, match=r"the adapter is for a weight of \[128, 256\], .* implies \[256, 256\]"):
        plan_adapter(adapter, base.save(), "f32")


@pytest.mark.parametrize("module", ["embed_tokens", "lm_head"])
def test_an_adapter_of_a_shared_embedding_is_refused(module, tmp_path):
    base = edit_case("llama2", tmp_path)
    adapter = read_adapter(make_adapter(base, tmp_path / "adapter", AdapterShape((module,))))
    base.config["tie_word_embeddings"] = True
    with pytest.raises(TensorError, match=f"changes .*{module}, but in the base the embedding is the output too"):
        plan_adapter(adapter, base.save(), "f32")


def test_some_of_the_experts_are_refused(tmp_path):
    base = edit_case("mixtral", tmp_path)
    adapter = read_adapter(make_adapter(base, tmp_path / "adapter", AdapterShape(("experts.1.w1",))))
    with pytest.raises(TensorError, match=r"some of the experts of blk.0.ffn_gate_exps.weight, but not .*experts.0.w1"):
        plan_adapter(adapter, base.directory, "f32")


def test_the_same_module_under_two_names_is_refused(base, tmp_path):
    def twice(tensors):
        tensors |= {name.replace("model.layers", "language_model.layers"): one for name, one in list(tensors.items())}

    adapter = read_adapter(with_tensors(make_adapter(base, tmp_path / "adapter", SMALL), twice))
    with pytest.raises(TensorError, match="are the same module in two styles of naming"):
        plan_adapter(adapter, base.directory, "f32")


def test_a_vision_module_is_refused(base, tmp_path):
    def rename(tensors):
        for name in list(tensors):
            tensors[name.replace("model.layers", "vision_tower.layers")] = tensors.pop(name)

    adapter = read_adapter(with_tensors(make_adapter(base, tmp_path / "adapter", SMALL), rename))
    with pytest.raises(TensorError, match=r"vision_tower\.layers.* belongs to the vision or audio part"):
        plan_adapter(adapter, base.directory, "f32")


def test_files_that_are_missing_are_named(base, tmp_path):
    directory = make_adapter(base, tmp_path / "adapter", SMALL)
    with pytest.raises(
        CheckpointError, match=r"config.json does not exist; the config.json of the base model is needed"
    ):
        plan_adapter(read_adapter(directory), tmp_path, "f32")
    (directory / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"neither adapter_model.safetensors nor adapter_model.bin"):
        read_adapter(directory)
    shutil.rmtree(directory)
    with pytest.raises(CheckpointError, match=r"has no adapter_config.json"):
        read_adapter(directory)
