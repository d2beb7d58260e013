"""Shapes on which estimators go wrong, asked of llama.cpp itself."""

import json
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.config_source import source_from_config
from toolkit.errors import DoesNotFitError, InputError
from toolkit.hf_source import source_from_checkpoint
from toolkit.memory import MemoryProbe, MemorySettings
from toolkit.memory_cache import CachedProbe, MemoryCache
from toolkit.memory_skeleton import write_skeleton
from toolkit.placement import placements
from toolkit.plan import Planner, PlanRequest, settled_settings
from toolkit.plannable import model_from_source
from toolkit.split_search import Budgets
from toolkit.token_speed import Bandwidths

GIB = 1 << 30
PLAIN = (("f16", "f16"),)
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
        footprint = probe.ask(skeleton_of(key), MemorySettings(n_ctx, 999, device="stand-in", **options))
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
    asked = MemorySettings(n_ctx, device="stand-in", n_batch=4096, **options)
    request = PlanRequest(Budgets((vram,), 256 * GIB), asked, Bandwidths((400e9,), 40e9), kv_types, explicit=True)
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
    with planner_for(config, 64 * GIB, 4096, probe, tmp_path) as planner:
        whole = planner.choices()[0].footprint
    gpu = next(device for device in whole.devices if not device.on_host)
    budget = gpu.weights_bytes + gpu.kv_cache_bytes + gpu.compute_bytes // 2
    assert not plan_for(config, budget, 4096, probe, tmp_path).fits_whole


@pytest.mark.parametrize("flash_attention", ["auto", "on"])
def test_mixed_kv_types_are_planned(probe, tmp_path, flash_attention):
    mixed = (("q8_0", "f16"),)
    choice = plan_for(LLAMA, GIB, 1024, probe, tmp_path, mixed, flash_attention=flash_attention)
    a_token = 4 * 128 * (2 + 34 / 32)
    assert sum(device.kv_cache_bytes for device in choice.footprint.devices) == a_token * 1024


def test_a_head_that_is_no_multiple_of_32_cannot_have_a_quantized_cache(probe, tmp_path):
    narrow = LLAMA | {"hidden_size": 192, "head_dim": 48}
    with pytest.raises(InputError, match=r"KV type q8_0: .* does not divide .*use --kv f16"):
        plan_for(narrow, GIB, 1024, probe, tmp_path, (("q8_0", "q8_0"),))


def test_a_full_offload_is_all_blocks_and_the_output(probe, tmp_path):
    choice = plan_for(LLAMA | {"num_hidden_layers": 32}, 8 * GIB, 512, probe, tmp_path)
    assert (choice.placement.n_gpu_layers, choice.n_layers) == (33, 33)


SPLIT = ("llama3", "qwen3_moe", "gemma3", "deepseek_v2", "mamba")


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
    asked = MemorySettings(512, device="stand-in")
    tensors = model.make("q8_0").model_tensors
    steps = placements(tensors)
    vram = round(share * taken(settled_settings(asked, steps[-1]))) + 1
    request = PlanRequest(Budgets((vram,), 256 * GIB), asked, Bandwidths((400e9,), 40e9), PLAIN, explicit=True)
    with Planner(model, request, probe) as planner:
        try:
            choice = planner.choices()[0]
        except DoesNotFitError:
            assert taken(settled_settings(asked, steps[0])) > vram
            return
    assert taken(choice.settings) == choice.footprint.gpu_bytes <= vram
    if not choice.fits_whole:
        one_more = steps[steps.index(choice.placement) + 1]
        assert taken(settled_settings(asked, one_more)) > vram
