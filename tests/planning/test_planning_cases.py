"""Shapes on which estimators go wrong, asked of llama.cpp itself."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.errors import DoesNotFitError, GgufError, InputError
from toolkit.gguf.format import MetadataValue, ValueType, array, string, uint32
from toolkit.gguf.ggml_types import F16, F32
from toolkit.gguf.layout import ShapedTensor
from toolkit.gguf.reader import read_gguf
from toolkit.llama.load_settings import KvTypes, LoadSettings
from toolkit.memory.cache import CachedProbe, MemoryCache
from toolkit.memory.estimate import EstimatingProbe
from toolkit.memory.placement import Placement, placements
from toolkit.memory.plannable import model_from_gguf, model_from_source
from toolkit.memory.probe import MemoryProbe
from toolkit.memory.skeleton import write_skeleton
from toolkit.planning.budgets import Budgets
from toolkit.planning.choice import placed_settings, state_bytes
from toolkit.planning.load_plan import LoadRequest, plan_load
from toolkit.planning.planner import Planner
from toolkit.planning.request import PlanningRequest
from toolkit.planning.token_speed import Bandwidths
from toolkit.render.plan.table import advice_for, where_it_lies
from toolkit.sources.config_source import source_from_config
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.verbs.model_summary import summarize, summarize_tensor

GIB = 1 << 30
PLAIN = (KvTypes(),)
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256, "intermediate_size": 512,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1024,
    "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
}  # fmt: skip
GEMMA3 = LLAMA | {
    "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "num_hidden_layers": 48, "head_dim": 64,
    "sliding_window": 1024, "sliding_window_pattern": 6, "rope_theta": 1e6, "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 64, "rms_norm_eps": 1e-6,
}  # fmt: skip
QWEN3_30B_A3B = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144,
    "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48,
    "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936,
    "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "norm_topk_prob": True,
    "decoder_sparse_step": 1, "mlp_only_layers": [], "tie_word_embeddings": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def probe() -> Iterator[CachedProbe]:
    with MemoryProbe(timeout_seconds=120) as started:
        yield CachedProbe(started, MemoryCache(None))


@pytest.fixture
def kv_bytes(probe, tmp_path):
    """Give a function: config or checkpoint, settings -> bytes of the KV cache and of recurrent states."""

    @cache
    def skeleton_of(config):
        if isinstance(config, str):
            file = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
            file.write_text(config)
            source = source_from_config(file)
        else:
            source = source_from_checkpoint(config)
        planned = model_from_source(source, ("q8_0",)).make("q8_0")
        return write_skeleton(planned.metadata, planned.tensors, tmp_path / f"{len(list(tmp_path.iterdir()))}.gguf")

    def ask(config, n_ctx, **options):
        key = json.dumps(config) if isinstance(config, dict) else config
        footprint = probe.ask(
            skeleton_of(key), LoadSettings(n_ctx=n_ctx, n_gpu_layers=999, device="simulated", **options)
        )
        return sum(device.kv_cache_bytes for device in footprint.devices)

    return ask


@pytest.mark.parametrize("n_ctx", [4096, 32768])
@pytest.mark.parametrize("n_ubatch", [512, 2048])
@pytest.mark.parametrize("n_parallel", [1, 4])
def test_a_windowed_layer_keeps_its_window_and_one_batch(kv_bytes, n_ctx, n_ubatch, n_parallel):
    a_token = 2 * 64 * 2 * 2  # heads x width x keys and values x bytes
    unified = {"n_parallel": n_parallel, "kv_unified": True, "n_batch": n_ubatch, "n_ubatch": n_ubatch}
    window = min(n_ctx, -(-(1024 * n_parallel + n_ubatch) // 256) * 256)
    assert kv_bytes(GEMMA3, n_ctx, **unified) == a_token * (8 * n_ctx + 40 * window)


def test_a_full_cache_for_windowed_layers_holds_every_token(kv_bytes):
    assert kv_bytes(GEMMA3, 4096, swa_full=True) == 48 * 2 * 64 * 2 * 2 * 4096


@pytest.mark.parametrize("case", ["mamba", "lfm2", "qwen3_next"])
def test_recurrent_states_depend_on_sequences_and_not_on_the_context(kv_bytes, kit_checkpoint, case):
    directory = kit_checkpoint(case)
    short, long = kv_bytes(directory, 4096), kv_bytes(directory, 8192)
    twice = kv_bytes(directory, 8192, n_parallel=2)
    states = 2 * short - long
    assert states > 0
    assert twice - long == states
    assert (long == short) == (case == "mamba")


@pytest.mark.parametrize("case", ["mamba", "lfm2", "qwen3_next", "jamba"])
@pytest.mark.parametrize("share", [0.0, 0.6, 2.0])
def test_states_and_cache_are_told_apart_on_every_device(probe, kit_checkpoint, case, share):
    model = model_from_source(source_from_checkpoint(kit_checkpoint(case)), ("q8_0",))
    whole = planned(model, GIB, probe).footprint.gpu_bytes
    vram = max(1, round(share * whole))
    short, long = (planned(model, vram, probe, n_ctx=n_ctx, n_parallel=2) for n_ctx in (512, 1024))
    # A longer context may have moved layers, so the states are compared in all.
    assert sum(state_bytes(short).values()) == sum(state_bytes(long).values()) > 0
    for choice in (short, long):
        states = state_bytes(choice)
        for device in choice.footprint.devices:
            cached = device.kv_cache_bytes - states.get(device.name, 0)
            assert cached >= 0
            assert case != "mamba" or cached == 0


def test_sequences_share_the_context_unified_or_not(kv_bytes):
    in_all = 4 * 128 * 2 * 2 * 8192
    assert kv_bytes(LLAMA, 8192, n_parallel=4) == kv_bytes(LLAMA, 8192, n_parallel=4, kv_unified=True) == in_all


def test_a_latent_cache_holds_keys_only(kv_bytes, kit_checkpoint):
    config = json.loads((kit_checkpoint("deepseek_v2") / "config.json").read_text())
    width = config["kv_lora_rank"] + config["qk_rope_head_dim"]
    assert kv_bytes(kit_checkpoint("deepseek_v2"), 4096) == config["num_hidden_layers"] * width * 2 * 4096


@pytest.mark.parametrize("n_ubatch", [512, 2048])
def test_logits_of_a_large_vocabulary_are_part_of_the_compute_buffer(probe, tmp_path, n_ubatch):
    choice = plan_for(LLAMA | {"vocab_size": 262144}, 64 * GIB, 4096, probe, tmp_path, n_ubatch=n_ubatch)
    gpu = next(device for device in choice.footprint.devices if not device.on_host)
    assert gpu.compute_bytes >= n_ubatch * 262144 * 4


def planner_for(config, vram, n_ctx, probe, tmp_path, kv_types=PLAIN, **options):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    model = model_from_source(source_from_config(file), ("q4_k_m",))
    asked = LoadSettings(n_ctx=n_ctx, device="simulated", n_batch=4096, **options)
    request = PlanningRequest(Budgets((vram,), 256 * GIB), asked, Bandwidths((400e9,), 40e9), kv_types, explicit=True)
    return Planner(model, request, probe)


def plan_for(*arguments, **options):
    with planner_for(*arguments, **options) as planner:
        return planner.choices()[0]


def test_a_large_mixture_leaves_experts_on_the_cpu_and_keeps_attention_on_the_gpu(probe, tmp_path):
    found = {
        (vram, n_ctx): plan_for(QWEN3_30B_A3B, vram * GIB, n_ctx, probe, tmp_path).placement
        for vram in (8, 12)
        for n_ctx in (4096, 65536)
    }
    assert all(placement.n_gpu_layers == 49 and placement.n_cpu_moe for placement in found.values())
    assert found[12, 4096].n_cpu_moe < found[8, 4096].n_cpu_moe
    assert found[8, 4096].n_cpu_moe < found[8, 65536].n_cpu_moe


def test_every_byte_of_the_experts_lies_somewhere(probe, tmp_path):
    split, whole = (plan_for(QWEN3_30B_A3B, vram * GIB, 4096, probe, tmp_path) for vram in (8, 64))
    sums = [sum(device.weights_bytes for device in one.footprint.devices) for one in (split, whole)]
    # Repacking for the CPU and alignment add a little, nothing is counted twice or forgotten.
    assert sums[0] == pytest.approx(sums[1], rel=0.001)


def test_what_lacks_a_little_for_its_compute_buffers_does_not_fit_whole_and_says_how_much(probe, tmp_path):
    config = LLAMA | {"vocab_size": 65536}
    whole = plan_for(config, 64 * GIB, 4096, probe, tmp_path).footprint
    gpu = next(device for device in whole.devices if not device.on_host)
    budget = gpu.weights_bytes + gpu.kv_cache_bytes + gpu.compute_bytes // 2
    choice = plan_for(config, budget, 4096, probe, tmp_path)
    assert not choice.fits_whole
    assert choice.whole.lacks_bytes == pytest.approx(gpu.total_bytes - budget, rel=0.001)


@pytest.mark.parametrize("flash_attention", ["auto", "on"])
def test_mixed_kv_types_are_planned(probe, tmp_path, flash_attention):
    mixed = (KvTypes("q8_0", "f16"),)
    choice = plan_for(LLAMA, GIB, 1024, probe, tmp_path, mixed, flash_attention=flash_attention)
    a_token = 4 * 128 * (2 + 34 / 32)
    assert sum(device.kv_cache_bytes for device in choice.footprint.devices) == a_token * 1024


def test_a_head_that_is_no_multiple_of_32_cannot_have_a_quantized_cache(probe, tmp_path):
    narrow = LLAMA | {"hidden_size": 192, "head_dim": 48}
    with pytest.raises(InputError, match=r"KV type q8_0: .* does not divide .*use --kv f16"):
        plan_for(narrow, GIB, 1024, probe, tmp_path, (KvTypes("q8_0", "q8_0"),))


def test_a_full_offload_is_all_blocks_and_the_output(probe, tmp_path):
    choice = plan_for(LLAMA | {"num_hidden_layers": 32}, 8 * GIB, 512, probe, tmp_path)
    assert (choice.placement.n_gpu_layers, choice.n_layers) == (33, 33)


SPLIT = ("llama3", "qwen3_moe", "gemma3", "deepseek_v2", "mamba")


@pytest.mark.parametrize(
    ("n_gpu_layers", "words"),
    [
        (0, "on the CPU alone"),
        (1, "1 of 33 layers on the GPU (the output)"),
        (2, "2 of 33 layers on the GPU (block 31 and the output)"),
        (32, "32 of 33 layers on the GPU (blocks 1 to 31 and the output)"),
        (33, "all 33 layers (blocks and output) on the GPU"),
    ],
)
def test_which_layer_lies_where_is_told(probe, tmp_path, n_gpu_layers, words):
    with planner_for(LLAMA | {"num_hidden_layers": 32}, 8 * GIB, 512, probe, tmp_path) as planner:
        assert where_it_lies(planner.placed("q4_k_m", PLAIN[0], Placement(n_gpu_layers))) == words


def test_the_batch_is_named_as_the_lever_where_its_buffers_decide(probe, tmp_path):
    config = LLAMA | {"vocab_size": 262144}
    whole = plan_for(config, 64 * GIB, 4096, probe, tmp_path, n_ubatch=2048).footprint.gpu_bytes
    choice = plan_for(config, whole - GIB, 4096, probe, tmp_path, n_ubatch=2048)
    assert not choice.fits_whole
    (line,) = advice_for(choice)
    assert line == "whole on the GPU it lacks about 1.00 GiB; --ubatch 512 would do"
    assert plan_for(config, whole - GIB, 4096, probe, tmp_path, n_ubatch=512).fits_whole


def test_a_context_is_named_as_the_lever_where_the_cache_decides(probe, tmp_path):
    whole = plan_for(LLAMA, 64 * GIB, 65536, probe, tmp_path).footprint.gpu_bytes
    budget = whole - 32 * 1024 * 4 * 128 * 2 * 2
    (line,) = advice_for(plan_for(LLAMA, budget, 65536, probe, tmp_path))
    assert re.fullmatch(r"whole on the GPU it lacks about 64\.0 MiB; --ctx \d+ would do", line)
    shorter = int(re.search(r"--ctx (\d+)", line)[1])
    assert plan_for(LLAMA, budget, shorter, probe, tmp_path).fits_whole


def planned(model, vram, probe, n_ctx=512, **options):
    asked = LoadSettings(n_ctx=n_ctx, device="simulated", **options)
    request = PlanningRequest(Budgets((vram,), 256 * GIB), asked, Bandwidths((400e9,), 40e9), PLAIN, explicit=True)
    with Planner(model, request, probe) as planner:
        return planner.choices()[0]


@pytest.fixture(scope="module")
def four_gib(tmp_path_factory):
    """Give the skeleton of a file of some 4 GiB in 16 bits, which no CPU repacks; it takes no space on disk."""
    folder = tmp_path_factory.mktemp("large")
    wide = {"hidden_size": 4096, "intermediate_size": 8192, "num_hidden_layers": 14, "num_attention_heads": 32}
    (folder / "config.json").write_text(json.dumps(LLAMA | wide | {"num_key_value_heads": 8}))
    made = model_from_source(source_from_config(folder / "config.json"), ("f16",)).make("f16")
    return write_skeleton(made.metadata, made.tensors, folder / "large.gguf").path


@pytest.mark.parametrize("n_gpu_layers", [7, 15])
def test_what_is_mapped_can_be_dropped_and_what_is_not_has_to_be_held(probe, four_gib, n_gpu_layers):
    request = LoadRequest(four_gib, LoadSettings(n_ctx=512, device="simulated"), n_gpu_layers)
    tight = Budgets((64 * GIB,), 2 * GIB)
    plan = plan_load(request, tight, probe)
    mapped = sum(device.mappable_bytes for device in plan.choice.footprint.devices)
    weights = sum(device.weights_bytes for device in plan.choice.footprint.devices)
    assert 3.5 * GIB < weights <= four_gib.stat().st_size
    assert plan.needed_ram_bytes == plan.choice.footprint.host_bytes - mapped < GIB / 4
    unmapped = replace(request, use_mmap=False)
    if n_gpu_layers == 15:  # all of it: what stays is the token embedding
        assert mapped < GIB / 16
        assert plan_load(unmapped, tight, probe).needed_ram_bytes < GIB / 4
    else:
        assert mapped > 2 * GIB
        with pytest.raises(DoesNotFitError, match=r"of RAM beside what can be mapped, and 2\.00 GiB are available"):
            plan_load(unmapped, tight, probe)


def openelm(tmp_path, heads_kv):
    """Write the skeleton of a model whose layers differ in their heads."""
    width, head, n_layer = 256, 32, len(heads_kv)
    heads, inner = [2 * count for count in heads_kv], [128 * (1 + layer) for layer in range(n_layer)]
    metadata = {
        "general.architecture": string("openelm"),
        "openelm.block_count": uint32(n_layer),
        "openelm.context_length": uint32(2048),
        "openelm.embedding_length": uint32(width),
        "openelm.feed_forward_length": array(ValueType.UINT32, inner),
        "openelm.attention.head_count": array(ValueType.UINT32, heads),
        "openelm.attention.head_count_kv": array(ValueType.UINT32, heads_kv),
        "openelm.attention.key_length": uint32(head),
        "openelm.attention.value_length": uint32(head),
        "openelm.attention.layer_norm_rms_epsilon": MetadataValue(ValueType.FLOAT32, 1e-6),
        "openelm.rope.dimension_count": uint32(head),
    }
    tensors = [ShapedTensor("token_embd.weight", (512, width), F16), ShapedTensor("output_norm.weight", (width,), F32)]
    for layer, (count, count_kv, size) in enumerate(zip(heads, heads_kv, inner, strict=True)):
        shapes = {
            "attn_norm": (width,), "attn_qkv": ((count + 2 * count_kv) * head, width), "attn_q_norm": (head,),
            "attn_k_norm": (head,), "attn_output": (width, count * head), "ffn_norm": (width,),
            "ffn_gate": (size, width), "ffn_up": (size, width), "ffn_down": (width, size),
        }  # fmt: skip
        tensors += [
            ShapedTensor(f"blk.{layer}.{name}.weight", shape, F32 if len(shape) == 1 else F16)
            for name, shape in shapes.items()
        ]
    return write_skeleton(metadata, tensors, tmp_path / "openelm.gguf").path


def test_heads_that_differ_between_layers_are_summed_layer_by_layer_and_shown_as_a_range(probe, tmp_path):
    heads_kv = [3, 3, 3, 4, 4, 4, 5]
    file = openelm(tmp_path, heads_kv)
    choice = planned(model_from_gguf(file), GIB, probe, n_ctx=1024)
    assert sum(device.kv_cache_bytes for device in choice.footprint.devices) == sum(heads_kv) * 32 * 2 * 2 * 1024
    read = read_gguf(file)
    summary = summarize(
        read.metadata, [summarize_tensor(name, rows.shape, rows.type) for name, rows in read.tensors.items()]
    )
    assert (summary.n_head_kv.least, summary.n_head_kv.most) == (3, 5)


def test_an_encoder_has_no_cache_and_the_compute_buffers_that_llama_cpp_asks_for(probe, kit_checkpoint):
    model = model_from_source(source_from_checkpoint(kit_checkpoint("nomic_bert")), ("f16",))
    short, long = (planned(model, GIB, probe, n_ctx=8192, n_batch=size, n_ubatch=size) for size in (512, 8192))
    for choice in (short, long):
        assert sum(device.kv_cache_bytes for device in choice.footprint.devices) == 0
    compute = [sum(device.compute_bytes for device in choice.footprint.devices) for choice in (short, long)]
    assert 0 < compute[0] < compute[1]


@pytest.mark.parametrize("case", ["bert", "gpt2", "starcoder"])
def test_a_context_beyond_the_learnt_positions_is_refused_with_the_largest_usable_one(case, probe, kit_checkpoint):
    model = model_from_source(source_from_checkpoint(kit_checkpoint(case)), ("f16",))
    most = model.trained_context
    assert planned(model, GIB, probe, n_ctx=most).fits
    with pytest.raises(InputError, match=rf"learnt {most} positions.*sequences of {most + 1} tokens.*n_ctx is {most}$"):
        planned(model, GIB, probe, n_ctx=most + 1)


def test_a_config_that_llama_cpp_dies_of_is_refused_by_its_name_and_not_estimated(kit_checkpoint):
    model = model_from_source(source_from_checkpoint(kit_checkpoint("mixtral")), ("f16",))
    file = model.make("f16")
    unused = {key: value for key, value in file.metadata.items() if not key.endswith("expert_used_count")}
    broken = replace(model, make=lambda _profile: replace(file, metadata=unused))
    with (
        MemoryProbe() as dying,
        pytest.raises(GgufError, match=rf"^{re.escape(model.name)}: llama.cpp ends in SIGABRT") as told,
    ):
        planned(broken, GIB, EstimatingProbe(lambda skeleton, asked: dying.predict(skeleton.path, asked)))
    assert "GGML_ASSERT(n_expert_used_max > 0)" in str(told.value)


@pytest.fixture(scope="module")
def real(kit_checkpoint, converted, probe):
    """Give a model of the kit, and a function that loads its converted file for real: settings -> bytes on the GPU."""

    @cache
    def of(case):
        model = model_from_source(source_from_checkpoint(kit_checkpoint(case)), ("q8_0",))
        file = converted(case, "q8_0")
        return model, cache(lambda settings: probe._probe.measure(file, settings).gpu_bytes)

    return of


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=st.sampled_from(SPLIT), share=st.floats(0, 1.2))
def test_what_was_planned_never_allocates_more_than_its_budget_and_one_more_layer_would(real, probe, case, share):
    model, taken = real(case)
    asked = LoadSettings(n_ctx=512, device="simulated")
    tensors = model.make("q8_0").model_tensors
    steps = placements(tensors)
    vram = round(share * taken(placed_settings(asked, steps[-1]))) + 1
    request = PlanningRequest(Budgets((vram,), 256 * GIB), asked, Bandwidths((400e9,), 40e9), PLAIN, explicit=True)
    with Planner(model, request, probe) as planner:
        try:
            choice = planner.choices()[0]
        except DoesNotFitError:
            assert taken(placed_settings(asked, steps[0])) > vram
            return
    assert taken(choice.settings) == choice.footprint.gpu_bytes <= vram
    if not choice.fits_whole:
        one_more = steps[steps.index(choice.placement) + 1]
        assert taken(placed_settings(asked, one_more)) > vram
