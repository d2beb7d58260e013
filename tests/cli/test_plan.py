"""`plan` as people and scripts call it; memory is asked of a simulated device."""

import json
import subprocess

import pytest
from click.testing import CliRunner
from loopback_device import free_port, loopback_device

from toolkit.cli import cli
from toolkit.errors import DoesNotFitError, EnvironmentFaultError, InputError
from toolkit.gguf.format import string, uint32
from toolkit.gguf.ggml_types import F32
from toolkit.gguf.layout import ShapedTensor, lay_out
from toolkit.llama.devices import LOOPBACK
from toolkit.llama.offload_build import OffloadBuild
from toolkit.machine.gpus import Gpu, GpuList, Holder
from toolkit.planning.margin import Overhead, known_overheads

CHOICE_KEYS = {
    "profile", "n_ctx", "kv_type_k", "kv_type_v", "n_gpu_layers", "tensor_buft_overrides", "fits",
    "predicted_tokens_per_second", "file_bytes", "devices",
}  # fmt: skip
DEVICE_KEYS = {"name", "budget_bytes", "weights_bytes", "kv_cache_bytes", "compute_bytes", "unaccounted_bytes"}
FIXED = ("--device", "simulated", "--ram-bandwidth", "40", "--gpu-bandwidth", "400")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(tmp_path_factory.getbasetemp() / "plan-cache"))


def plan(*words):
    ram = () if "--ram" in words else ("--ram", "8GiB")
    result = CliRunner(catch_exceptions=False).invoke(cli, ["plan", *map(str, words), *FIXED, *ram])
    assert result.exit_code == 0, result.output
    return result


def document(*words):
    return json.loads(plan(*words, "--json").stdout)


@pytest.fixture(scope="module")
def file(converted):
    return converted("llama3", "q8_0")


def test_the_document_has_the_keys_that_scripts_rely_on():
    found = document("demo", "--vram", "16MiB", "--ctx", "512")
    assert found["schema"] == "gguf-toolkit/plan/2"
    assert len(found["choices"]) == 3
    for choice in found["choices"]:
        assert choice.keys() >= CHOICE_KEYS
        assert all(device.keys() >= DEVICE_KEYS for device in choice["devices"])
        assert choice["fits"]


def test_a_person_reads_what_fits_where(file):
    lines = plan(file, "--vram", "16MiB", "--ctx", "512").stdout.splitlines()
    assert "layers (blocks and output) on the GPU" in lines[0]
    assert lines[1] == "context 512"
    assert any(line.startswith("RPC0") and "of 16.0 MiB" in line and "weights" in line for line in lines)
    assert any(line.startswith("RAM") for line in lines)
    assert "answered by a simulated device" in lines[-1]


def test_what_is_kept_free_is_told_with_where_the_number_comes_from(file, monkeypatch):
    words = (file, "--vram", "64MiB", "--ctx", "512", "--margin", "3MiB")
    assert "3.00 MiB kept free on each GPU: for the driver's context and libraries, assumed" in plan(*words).stdout
    card = Gpu("RTX", "GPU-1", 8 << 30, 7 << 30, driver="570.1")
    known_overheads().put(Overhead("RTX", "570.1", 2 << 20, "NVML"))
    monkeypatch.setattr("toolkit.llama.gpus.list_gpus", lambda _nvml: GpuList((card,)))
    assert "kept free on each GPU: a process takes 2.00 MiB beyond its buffers, measured" in plan(*words).stdout
    assert document(*words)["measured_overhead_bytes"] == 2 << 20


def test_a_file_has_the_profile_it_has_and_its_exact_size(file):
    choices = document(file, "--vram", "64MiB", "--ctx", "512")["choices"]
    assert {(choice["profile"], choice["file_bytes"]) for choice in choices} == {("Q8_0", file.stat().st_size)}


def test_a_file_can_be_planned_in_another_profile(file):
    choices = document(file, "--vram", "64MiB", "--ctx", "512", "--profile", "q4_0")["choices"]
    assert {choice["profile"] for choice in choices} == {"Q4_0"}


def test_a_config_alone_is_enough(kit_checkpoint):
    whole = kit_checkpoint("llama3")
    alone, all_of_it = (
        document(source, "--vram", "64MiB", "--ctx", "512", "-p", "q8_0") for source in (whole / "config.json", whole)
    )
    assert alone["choices"][0]["devices"] == all_of_it["choices"][0]["devices"]
    assert (alone["file_bytes_exact"], all_of_it["file_bytes_exact"]) == (False, True)


def test_a_shell_evaluates_the_plan(file):
    text = plan(file, "--vram", "64MiB", "--ctx", "512", "--format", "shell").stdout
    done = subprocess.run(["sh", "-c", text + "\necho $NGL $CTX $KV_TYPE_K"], capture_output=True, check=True)
    assert done.stdout.split()[1:] == [b"512", b"f16"]


@pytest.mark.parametrize("format_", ["shell", "llama-server", "preset", "ollama"])
def test_a_name_that_would_write_a_line_of_its_own_is_refused(file, tmp_path, format_):
    path = tmp_path / "m\nPARAMETER num_gpu 99.gguf"
    path.symlink_to(file)
    with pytest.raises(InputError, match="control characters"):
        plan(path, "--vram", "64MiB", "--ctx", "512", "--format", format_)


@pytest.mark.parametrize(
    ("format_", "start"),
    [("llama-server", "llama-server -m"), ("preset", "["), ("ollama", "FROM "), ("python", "llama_cpp.Llama(")],
)
def test_other_programs_get_the_best_choice(file, format_, start):
    assert plan(file, "--vram", "64MiB", "--ctx", "512", "--format", format_).stdout.startswith(start)


def test_a_sweep_is_a_grid():
    words = ("--sweep", "ctx=512,1k", "kv=f16,q8_0/f16", "profile=q8_0,q4_k_m")
    choices = document("demo", "--vram", "12MiB", *words)["choices"]
    grid = [(one["profile"], one["kv_type_k"], one["kv_type_v"], one["n_ctx"]) for one in choices]
    kv_types = (("f16", "f16"), ("q8_0", "f16"))
    assert grid == [(p, *kv, n) for p in ("Q8_0", "Q4_K_M") for kv in kv_types for n in (512, 1024)]


def test_the_longest_context_is_found(file):
    choices = document(file, "--vram", "16MiB", "--max-ctx", "--kv", "f16")["choices"]
    assert choices[0]["n_ctx"] >= 256
    assert choices[0]["fits_whole"]


def test_no_vram_plans_for_the_cpu_alone(file):
    choices = document(file, "--vram", "0", "--ctx", "512")["choices"]
    assert {choice["n_gpu_layers"] for choice in choices} == {0}
    assert {device["name"] for choice in choices for device in choice["devices"]} == {"CPU"}


def test_where_no_layer_fits_the_gpu_one_line_says_so_and_what_would_help(file):
    result = plan(file, "--vram", "1MiB", "--ctx", "512", "--format", "llama-server")
    assert "-ngl 0" in result.stdout
    assert "nothing of Q8_0 fits on the GPU, so the CPU has to do it: the first layer lacks" in result.stderr
    choice = document(file, "--vram", "1MiB", "--ctx", "512")["choices"][0]
    assert choice["fits"]
    assert not choice["uses_gpu"]
    assert choice["first_layer_lacks_bytes"] > 0
    headline = plan(file, "--vram", "1MiB", "--ctx", "512").stdout.splitlines()[0]
    assert "; on the CPU alone: not one layer fits the GPU; about" in headline


def test_a_plan_for_the_cpu_alone_keeps_llama_server_off_the_gpu(file):
    done = plan(file, "--vram", "0", "--ctx", "512", "--format", "llama-server")
    assert done.stdout.strip().endswith("-ngl 0 -dev none")
    assert "nothing of" not in done.stderr


def test_one_answer_has_one_form(file):
    words = ["plan", str(file), "--vram", "8GiB", "--json", "--format", "shell"]
    done = CliRunner().invoke(cli, words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--json and --format are two forms of one answer" in done.stderr


def test_two_gpus_share_the_layers(file):
    choice = document(file, "--vram", "7MiB,12MiB", "--ctx", "512", "--margin", "0")["choices"][0]
    assert sum(choice["tensor_split"]) == choice["n_gpu_layers"]
    assert all(
        device["weights_bytes"] + device["kv_cache_bytes"] + device["compute_bytes"] <= device["budget_bytes"]
        for device in choice["devices"]
    )


def test_a_context_of_several_sequences_is_told_in_all_and_for_each(file):
    apart = plan(file, "--vram", "64MiB", "--ctx", "1k", "--parallel", "4").stdout
    together = plan(file, "--vram", "64MiB", "--ctx", "1k", "--parallel", "4", "--kv-unified").stdout
    assert "context 1,024 in all, 256 for each of 4 sequences" in apart
    assert "context 1,024 in all, shared by 4 sequences" in together


def test_a_context_beyond_the_trained_one_is_planned_with_a_warning(file):
    result = plan(file, "--vram", "640MiB", "--ctx", "1m", "--kv", "q4_0")
    assert "beyond the" in result.stderr


def test_answers_are_kept_and_asked_for_once(file, monkeypatch):
    words = (file, "--vram", "64MiB", "--ctx", "768")
    first = document(*words)
    monkeypatch.setattr("toolkit.memory.probe.MemoryProbe.predict", None)
    assert document(*words) == first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kv", "q9"), "KV type 'q9' is not one of"),
        (("--kv", "q8_0", "--flash-attention", "off"), "needs flash attention, which is off"),
        (("--vram", "8 parsecs"), "is not a size"),
        (("--sweep", "kv"), "is not a part of a sweep"),
        (("ctx=4k",), "go with --sweep"),
        (("--rpc", "8.8.8.8:50052"), "not a private address"),
        (("--rpc", "nowhere"), "write it as HOST:PORT"),
        (("--ctx", "2", "--parallel", "4"), "leaves no token"),
        (
            ("--ctx", "99999999999"),
            r"a context of 99,999,999,999 tokens is more than any model has; at most 16,777,216",
        ),
        (("--sweep", "ctx=4k,99999999"), "a context of 99,999,999 tokens is more than any model has"),
        (("--sweep", "ctx=4k,x"), "'x' is not a number of tokens"),
        (("--vram", "-1GiB"), "'-1GiB' is not a size"),
        (("--vram", "8GiB,"), "'' is not a size"),
        (("--vram", ",".join(["1GiB"] * 9)), "9 GPUs are more than the 8 that can be simulated"),
        (("--kv", "f16/q8_0/q4_0"), "two are written as KEYS/VALUES"),
        (("--rpc", "127.0.0.1:99999"), "write it as HOST:PORT"),
        (("--profile", "nope"), "there is no profile 'nope'"),
        (("--profile", "q8_0", "--profile", "nope"), "there is no profile 'nope'"),
        (("--profile", "nope", "--profile", "q8_0"), "there is no profile 'nope'"),
        (("--vram", "8"), "did you mean 8GiB?"),
        (("--vram", "8GiB,6"), "did you mean 6GiB?"),
        (("--draft", "nowhere.gguf"), "nowhere.gguf: no such file"),
    ],
)
def test_bad_input_is_told_in_one_line(words, message):
    vram = () if "--vram" in words else ("--vram", "64MiB")
    with pytest.raises(InputError, match=message):
        plan("demo", *vram, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--ctx", "-512"), "'-512' is not a number of tokens; write it as 4096 or 16k"),
        (("--ctx", "0"), "'0' is not a number of tokens"),
        (("--ctx", "nan"), "'nan' is not a number of tokens"),
        (("--margin", "-1"), "'-1' is not a size"),
        (("--ubatch", "0"), "0 is not in the range x>=1"),
        (("--parallel", "1000"), "1000 is not in the range 1<=x<=256"),
        (("--gpu-bandwidth", "0"), "0.0 is not in the range x>=1"),
        (("--flash-attention", "maybe"), "'maybe' is not one of 'auto', 'on', 'off'"),
    ],
)
def test_an_option_that_cannot_be_is_a_matter_of_usage(words, message):
    result = CliRunner().invoke(cli, ["plan", "demo", "--vram", "64MiB", *words])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr.splitlines()[-1]


def test_what_cannot_be_is_one_line_and_a_documented_code_of_the_real_command(run_command):
    down = ("--rpc", f"{LOOPBACK}:{free_port()}", "--rpc-required")
    for words, code in ((("--ctx", "99999999999"), 2), (("--vram", "0", "--ram", "1MiB"), 3), (down, 4)):
        done = run_command("plan", "demo", "--vram", "64MiB", "--ram-bandwidth", "40", "-p", "q8_0", *words)
        told = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
        assert (done.returncode, done.stdout, len(told)) == (code, "", 1), done.stderr
        assert told[0].startswith("error: ")


def test_what_the_ram_cannot_hold_ends_with_code_3():
    with pytest.raises(DoesNotFitError, match="of RAM"):
        plan("demo", "--vram", "0", "--ram", "1MiB")


def test_a_server_that_is_down_is_named_and_left_out_or_ends_the_plan(file):
    endpoint = f"{LOOPBACK}:{free_port()}"
    words = (file, "--vram", "64MiB,64MiB", "--ctx", "512", "--rpc", endpoint)
    result = plan(*words)
    assert f"no RPC server answers at {endpoint}" in result.stderr
    with pytest.raises(EnvironmentFaultError, match=endpoint):
        plan(*words, "--rpc-required")


def test_a_server_without_a_budget_gives_what_it_has_free(file, run_command):
    """In a process of its own: a device that was added stays, and whatever loads a model there later would end with it."""
    with loopback_device() as endpoint:
        words = ("--ctx", "512", "--ram", "8GiB", "--rpc", endpoint, "--json")
        choice = json.loads(run_command("plan", file, *words, *FIXED).stdout)["choices"][0]
    server = next(device for device in choice["devices"] if device["name"].startswith("RPC"))
    assert choice["fits_whole"]
    assert server["budget_bytes"] > 1 << 30


def test_a_gpu_that_is_not_here_is_stood_in_for_beside_a_server(file):
    words = ["--vram", "2MiB,2MiB", "--margin", "0", "--ctx", "128", "--kv", "f16", "--ram-bandwidth", "40", "--json"]
    with loopback_device() as endpoint:
        result = CliRunner(catch_exceptions=False).invoke(cli, ["plan", str(file), *words, "--rpc", endpoint])
    choice = json.loads(result.stdout)["choices"][0]
    on_devices = [device for device in choice["devices"] if device["name"].startswith("RPC")]
    assert sum(choice["tensor_split"]) == choice["n_gpu_layers"] > 0
    assert all(device["budget_bytes"] == 2 << 20 for device in on_devices)
    for device in on_devices:
        assert device["weights_bytes"] + device["kv_cache_bytes"] + device["compute_bytes"] <= 2 << 20


def test_a_server_takes_part_as_a_device_of_its_own(file):
    with loopback_device() as endpoint:
        result = plan(file, "--vram", "64MiB", "--ctx", "512", "--rpc", endpoint, "--format", "llama-server")
    assert f"--rpc {endpoint} -dev RPC0" in result.stdout


def test_an_impossible_kv_type_for_the_model_says_what_to_use(kit_checkpoint):
    with pytest.raises(InputError, match=r"does not divide .*; use --kv f16"):
        plan(kit_checkpoint("minicpm3"), "--vram", "64MiB", "--ctx", "512", "--kv", "q8_0", "-p", "q8_0")


def test_without_llama_cpp_the_plan_is_an_estimate_and_says_so(file, monkeypatch):
    monkeypatch.setattr("toolkit.verbs.devices.offload_build", lambda: OffloadBuild(False, ()))
    result = plan(file, "--vram", "64MiB", "--ctx", "512")
    assert "estimated by formula" in result.stderr
    assert "answered by an estimate by formula" in result.stdout
    assert document(file, "--vram", "64MiB", "--ctx", "512")["estimated"]


def the_only_gpu_is(card, monkeypatch):
    for place in ("toolkit.verbs.devices.list_gpus", "toolkit.verbs.planning.find_gpus"):
        monkeypatch.setattr(place, lambda: GpuList((card,)))


def test_a_gpu_that_the_build_cannot_use_is_told_with_the_line_that_helps(file, monkeypatch):
    card = Gpu("NVIDIA RTX 3060", "GPU-1", 12 << 30, 11 << 30)
    the_only_gpu_is(card, monkeypatch)
    monkeypatch.setattr("toolkit.verbs.devices.offload_build", lambda: OffloadBuild(True, ("RPC",)))
    result = plan(file, "--ctx", "512")
    assert "built without offload, so NVIDIA RTX 3060 stays idle" in result.stderr
    assert "-DGGML_CUDA=on" in result.stderr
    assert "of 11.0 GiB" in result.stdout


def test_a_small_margin_under_windows_own_driver_model_is_advised_against(file, monkeypatch):
    the_only_gpu_is(Gpu("RTX 4060", "GPU-1", 8 << 30, 7 << 30, wddm=True), monkeypatch)
    words = (file, "--ctx", "512", "--vram", "4GiB")
    advice = "warning: --margin 100 MiB is little on RTX 4060: Windows moves memory to RAM instead of failing"
    assert advice in plan(*words, "--margin", "100MiB").stderr
    assert "Windows" not in plan(*words, "--margin", "1GiB").stderr
    kept = document(*words)["choices"][0]["devices"][0]["unaccounted_bytes"]
    assert kept == (4 << 30) * 6 // 100 + (4 << 30) * 4 // 100


def test_a_plan_starts_from_what_is_free_and_names_who_holds_the_rest(file, monkeypatch):
    held = (Holder(4242, 1434 << 20), Holder(77, None))
    card = Gpu("NVIDIA RTX 3070", "GPU-1", 8 << 30, 6758 << 20, held)
    the_only_gpu_is(card, monkeypatch)
    monkeypatch.setattr("toolkit.verbs.devices.offload_build", lambda: OffloadBuild(True, ("CUDA",)))
    result = plan(file, "--ctx", "512", "--json")
    assert json.loads(result.stdout)["choices"][0]["devices"][0]["budget_bytes"] == 6758 << 20
    told = "NVIDIA RTX 3070: 6.60 GiB of 8.00 GiB are free, held by process 4242 (1.40 GiB), process 77 (?)"
    assert told in result.stderr


def test_a_draft_model_takes_its_own_memory_off_the_budget(file, converted):
    draft = converted("llama2", "q8_0")
    words = (file, "--vram", "64MiB", "--ctx", "512")
    alone, beside = document(*words), document(*words, "--draft", draft)
    taken = beside["companions"][0]
    assert (taken["role"], taken["path"]) == ("draft", str(draft))
    on_gpu = sum(taken[kind] for kind in ("weights_bytes", "kv_cache_bytes", "compute_bytes"))
    budgets = [found["choices"][0]["devices"][0]["budget_bytes"] for found in (alone, beside)]
    assert on_gpu > 0
    assert budgets == [64 << 20, (64 << 20) - on_gpu]
    assert f"--model-draft {draft}" in beside["choices"][0]["llama_server"]


def test_a_projector_counts_its_tensors_and_an_image(file, tmp_path):
    projector = write_projector(tmp_path / "mmproj.gguf")
    found = document(file, "--vram", "64MiB", "--ctx", "512", "--mmproj", projector)["companions"][0]
    assert found["weights_bytes"] == 64 * 32 * 4
    assert found["compute_bytes"] == 4 * (16 * 16 * 2 + 16 * (2 * 64 + 4 * 32))
    assert found["estimated"]
    table = plan(file, "--vram", "64MiB", "--ctx", "512", "--mmproj", projector).stdout
    assert "mmproj" in table
    assert "compute by formula" in table


def test_a_model_is_no_projector(file):
    with pytest.raises(InputError, match=r"is no projector: general\.architecture is llama, not clip"):
        plan(file, "--vram", "64MiB", "--mmproj", file)


def write_projector(path):
    metadata = {
        "general.architecture": string("clip"),
        "clip.vision.image_size": uint32(32),
        "clip.vision.patch_size": uint32(8),
        "clip.vision.attention.head_count": uint32(2),
        "clip.vision.feed_forward_length": uint32(64),
        "clip.vision.embedding_length": uint32(32),
    }
    layout = lay_out(metadata, [ShapedTensor("v.patch_embd.weight", (64, 32), F32)])
    path.write_bytes(layout.header + bytes(layout.file_bytes - len(layout.header)))
    return path
