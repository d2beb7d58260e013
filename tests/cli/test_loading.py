"""What commands that load a model do with it first: plan, stop what does not fit, and hold the result against the plan."""

import json

import pytest
from demo_model import FIXED_TEXT, convert_demo
from loopback_device import free_port, loopback_device

from toolkit.llama.devices import LOOPBACK

MIB = 1 << 20
SMALL = ("--text", FIXED_TEXT, "--ctx", "64", "--chunks", "1", "--threads", "1")
QUICK = ("-p", "16", "-n", "2", "-r", "1", "--threads", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return convert_demo(tmp_path_factory.mktemp("demo"), "q4_k_m")


@pytest.fixture(scope="module")
def server():
    with loopback_device() as endpoint:
        yield endpoint


@pytest.fixture
def document(run_command):
    """Give a function that runs a command and returns its document."""

    def run(*words):
        done = run_command(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def held(document):
    """Return predicted and allocated bytes of every device, by what it is."""
    return {
        "server" if device["name"].startswith("RPC") else device["name"]: (
            device["predicted_bytes"],
            device["allocated_bytes"],
        )
        for device in document["devices"]
    }


def test_everything_goes_to_a_server_that_has_room_and_takes_what_was_predicted(document, model, server):
    devices = held(document("perplexity", model, *SMALL, "--rpc", server))
    assert devices.keys() == {"server", "CPU"}
    assert devices["server"][1] > 2 * MIB
    assert all(predicted == allocated for predicted, allocated in devices.values())


def test_a_server_computes_what_this_process_does(document, server, tmp_path):
    # Quantized weights are repacked for other kernels here than on a server; those of 32 bits never are, and both sides run one library.
    model = convert_demo(tmp_path, "f32")
    here, there = document("perplexity", model, *SMALL), document("perplexity", model, *SMALL, "--rpc", server)
    assert held(there)["server"][1] > 16 * MIB
    assert there["chunk_nlls"] == here["chunk_nlls"]


def test_a_budget_is_kept_by_the_load_itself(document, model, server):
    devices = held(document("perplexity", model, *SMALL, "--rpc", server, "--vram", "3MiB", "--margin", "0"))
    predicted, allocated = devices["server"]
    assert 0 < allocated == predicted <= 3 * MIB


def test_where_no_layer_fits_the_device_the_cpu_does_it_and_one_line_says_so(run_command, model, server):
    done = run_command("perplexity", model, *SMALL, "--rpc", server, "--vram", "100KiB", "--margin", "0")
    assert done.returncode == 0
    assert "fits on the GPU, so the CPU has to do it: the first layer lacks" in done.stderr


def test_a_server_with_two_devices_has_a_budget_for_each(run_command, document, model):
    with loopback_device(n_devices=2) as endpoint:
        sizes = ("--rpc", endpoint, "--vram", "3MiB,4MiB", "--margin", "0")
        loaded = document("perplexity", model, *SMALL, *sizes)
        planned = document("plan", model, "--ctx", "64", "--ram-bandwidth", "40", *sizes)
        too_few = run_command("plan", model, "--rpc", endpoint, "--vram", "3MiB")
        whole = document("perplexity", model, *SMALL, "--rpc", endpoint, "--vram", "4MiB,64MiB", "--margin", "0")
    allocated = [device["allocated_bytes"] for device in loaded["devices"] if device["name"].startswith("RPC")]
    assert 0 < allocated[0] <= 3 * MIB
    assert all(size <= 4 * MIB for size in allocated[1:])
    for found in (loaded, whole):
        assert all(device["predicted_bytes"] == device["allocated_bytes"] for device in found["devices"])
    assert len(whole["devices"]) == 3
    budgets = {device["name"]: device["budget_bytes"] for device in planned["choices"][0]["devices"]}
    assert budgets["RPC0"] == 3 * MIB
    assert "--vram has 1 sizes for 2 devices of RPC servers" in too_few.stderr


def test_people_read_what_was_predicted_and_allocated(run_command, model):
    done = run_command("perplexity", model, *SMALL)
    assert "allocated, as predicted to the byte" in done.stderr
    assert "of the file mapped" in done.stderr
    unmapped = run_command("perplexity", model, *SMALL, "--no-mmap")
    assert "allocated, as predicted to the byte" in unmapped.stderr
    assert "mapped" not in unmapped.stderr


@pytest.mark.parametrize(
    ("by_hand", "words"),
    [
        (("-ngl", "9"), "with 9 of 9 layers on the GPU it needs"),
        (("--override-tensor", "blk\\.0\\..*=CPU"), "with 9 of 9 layers on the GPU and the given overrides it needs"),
    ],
)
def test_a_split_by_hand_that_is_too_much_stops_before_loading(run_command, model, server, by_hand, words):
    done = run_command("perplexity", model, *SMALL, "--rpc", server, "--vram", "3MiB", *by_hand)
    assert done.returncode == 3
    assert done.stdout == ""
    assert words in done.stderr
    assert "more than the" in done.stderr
    assert "give a lower -ngl or other overrides, a shorter --ctx, a smaller --kv, or more --vram" in done.stderr


def test_overrides_by_hand_move_tensors_back_to_the_cpu(document, model, server):
    rpc = ("--rpc", server)
    whole, less = (
        held(document("perplexity", model, *SMALL, *rpc, *options))
        for options in ((), ("--override-tensor", "blk\\.[0-3]\\.ffn_.*=CPU"))
    )
    assert less["server"][0] == less["server"][1] < whole["server"][1]


def test_what_the_ram_cannot_hold_is_not_loaded(run_command, model):
    done = run_command("bench", model, *QUICK, "--ram", "1MiB")
    assert done.returncode == 3
    assert "of RAM beside what can be mapped, and 1.00 MiB are available" in done.stderr


def test_mapped_weights_that_do_not_fit_the_ram_are_loaded_with_a_warning(run_command, document, model):
    needed = document("perplexity", model, *SMALL)["devices"][0]["predicted_bytes"]
    done = run_command("perplexity", model, *SMALL, "--ram", str(needed))
    assert done.returncode == 0
    assert "they will be read from disk again and again" in done.stderr


def test_a_server_that_is_down_is_named_and_left_out_or_stops_the_load(run_command, model):
    endpoint = f"{LOOPBACK}:{free_port()}"
    done = run_command("bench", model, *QUICK, "--rpc", endpoint)
    assert done.returncode == 0
    assert f"no RPC server answers at {endpoint}" in done.stderr
    assert "loaded without it" in done.stderr
    done = run_command("bench", model, *QUICK, "--rpc", endpoint, "--rpc-required")
    assert done.returncode == 4
    assert f"error: no RPC server answers at {endpoint}" in done.stderr


def test_several_splits_are_measured_one_after_the_other(document, model, server):
    rows = document("bench", model, *QUICK, "--rpc", server, "-ngl", "2,9")["results"]
    assert [row["n_gpu_layers"] for row in rows] == [2, 9]
    first, second = (held(row)["server"] for row in rows)
    assert first[0] == first[1] < second[0] == second[1]


def test_a_base_beside_the_model_gets_what_is_left_of_the_budget(document, model, server):
    options = (*SMALL, "--rpc", server, "--vram", "6MiB", "--margin", "0")
    found = document("kld", model, "--base", model, *options)
    taken = [held({"devices": found[key]}).get("server", (0, 0)) for key in ("devices", "base_devices")]
    assert all(predicted == allocated for predicted, allocated in taken)
    assert sum(allocated for _, allocated in taken) <= 6 * MIB


def test_an_importance_matrix_is_collected_on_a_server(document, model, server, tmp_path):
    found = document("imatrix", model, *SMALL, "--rpc", server, "-o", tmp_path / "m.imatrix")
    assert held(found)["server"][0] == held(found)["server"][1] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--override-tensor", "ffn"), "'ffn' is not an override; write it as PATTERN=BUFFER"),
        (("--override-tensor", "ffn=CUDA7"), "there is no buffer type 'CUDA7' here"),
        (("--rpc", "8.8.8.8:50052"), "not a private address"),
        (("--vram", "lots"), "'lots' is not a size"),
    ],
)
def test_bad_places_are_told_in_one_line(run_command, model, options, message):
    done = run_command("perplexity", model, *SMALL, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_budget_for_a_gpu_that_is_not_there_is_of_no_use_and_says_so(run_command, model):
    done = run_command("perplexity", model, *SMALL, "--vram", "8GiB")
    assert done.returncode == 0
    assert "so --vram has no effect: loaded on the CPU" in done.stderr


@pytest.mark.parametrize(
    ("words", "outputs"),
    [
        (("perplexity", *SMALL), 31),
        (("perplexity", *SMALL[:4], "--threads", "1", "--chunks", "4"), 4 * 31),
        (("perplexity", *SMALL[:4], "--stride", "8", "--threads", "1"), 8),
        (("bench", *QUICK), 1),
    ],
)
def test_the_logits_of_a_batch_are_in_what_is_predicted_and_in_what_is_taken(document, model, words, outputs):
    command, *rest = words
    found = document(command, model, *rest)
    [cpu] = found["devices"] if command == "perplexity" else found["results"][0]["devices"]
    assert cpu["outputs_bytes"] == outputs * 2048 * 4 < cpu["compute_bytes"]
    assert cpu["predicted_bytes"] == cpu["allocated_bytes"]


def test_an_importance_matrix_takes_the_logits_of_every_token_and_a_pair_of_models_twice_those_of_the_second_half(
    document, model, tmp_path
):
    [cpu] = document("imatrix", model, "-o", tmp_path / "i.gguf", *SMALL)["devices"]
    assert cpu["outputs_bytes"] == 64 * 2048 * 4
    assert cpu["predicted_bytes"] == cpu["allocated_bytes"]
    found = document("kld", model, "--base", model, *SMALL)
    assert [found[key][0]["outputs_bytes"] for key in ("devices", "base_devices")] == [31 * 2048 * 4] * 2
