"""Models on the hub: only what is needed is fetched, once, and what goes wrong comes with advice."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from checkpoints import case_names
from hub_server import TOKEN, Hub, serve
from mistral_checkpoint import as_mistral_format
from twins import changed_case

from toolkit.gguf.reader import read_gguf
from toolkit.hub import HubModel, parse_hub_model
from toolkit.hub.model import needed_files
from toolkit.reporter import LOGGING
from toolkit.verbs.model_names import resolve_source

SHARDS = [f"model-0000{number}-of-00004.safetensors" for number in (1, 2, 3, 4)]
QUANTIZED = Path(__file__).parents[1] / "kit" / "quantized" / "checkpoints"
NOT_NEEDED = ("model.gguf", "consolidated.safetensors", "onnx/model.onnx", "pytorch_model.bin", "training_args.bin")


@pytest.fixture
def hub(kit_checkpoint, tmp_path):
    """Serve Mixtral in four shards and a small Qwen, amid files that nobody needs."""
    folders = {f"some/{case}": tmp_path / case for case in ("mixtral", "qwen3")}
    for case in ("mixtral", "qwen3"):
        shutil.copytree(kit_checkpoint(case), tmp_path / case, copy_function=shutil.copyfile)
    for name in NOT_NEEDED:
        file = tmp_path / "mixtral" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * 1000)
    with serve(Hub(folders)) as served:
        yield served


@pytest.fixture
def command(hub, run_command, tmp_path):
    """Give a function that runs a command with this hub and a cache of the test's own."""
    place = tmp_path / "elsewhere"
    place.mkdir()

    def run(*arguments, **environment):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        cache = {"HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(Path.cwd())}
        return run_command(*arguments, cwd=place, env=clean | hub.environment | cache | environment)

    return run


def cached_files(tmp_path):
    return {path.name for path in (tmp_path / "cache").rglob("*") if path.is_symlink() or path.is_file()}


def test_a_model_on_the_hub_converts_to_the_file_of_its_directory(command, hub, converted, tmp_path):
    done = command("convert", "some/mixtral", "m.gguf", "-p", "bf16", HF_TOKEN="hf_mine")
    assert done.returncode == 0, done.stderr
    ours, plain = read_gguf(tmp_path / "elsewhere" / "m.gguf"), read_gguf(converted("mixtral", "bf16"))
    assert {name: rows.data.tobytes() for name, rows in ours.tensors.items()} == {
        name: rows.data.tobytes() for name, rows in plain.tensors.items()
    }
    # The hub also knows whose it is.
    assert ours.metadata["general.organization"].value == "Some"
    assert {key: ours.metadata[key] for key in plain.metadata} == plain.metadata
    assert not {name for name in hub.served if any(name in other for other in NOT_NEEDED)}
    assert hub.seen_elsewhere == [], "a token reached another host"


FETCH = """
import sys
from contextlib import contextmanager
from toolkit.hub import download_checkpoint, open_repository, parse_hub_model
from toolkit.reporter import LoggingReporter

class CountedTask(list):
    advance = list.append

class CountingReporter(LoggingReporter):
    @contextmanager
    def task(self, label, total, *, unit):
        task = CountedTask()
        yield task
        assert (sum(task), unit) == (total, "bytes"), (sum(task), total, unit)

print(download_checkpoint(open_repository(parse_hub_model(sys.argv[1])), CountingReporter()))
"""


@pytest.fixture
def fetch(hub, tmp_path):
    """Give a function that fetches a model in a process of its own, and returns its folder in the cache."""

    def run(model):
        done = subprocess.run(
            [sys.executable, "-c", FETCH, model],
            env=os.environ | hub.environment | {"HF_HOME": str(tmp_path / "cache")},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip())

    return run


def test_what_is_in_the_cache_is_not_fetched_again(fetch, hub):
    folder = fetch("some/mixtral")
    assert {name: hub.served[name] for name in SHARDS} == {
        name: (hub.repositories["some/mixtral"] / name).stat().st_size for name in SHARDS
    }
    before = dict(hub.served)
    assert fetch("some/mixtral@main") == folder
    assert hub.served == before


@pytest.fixture
def large(hub, tmp_path):
    """Give a file of 25 MiB that is all the weights of some/large."""
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(random.Random(1).randbytes(25 << 20))
    hub.repositories["some/large"] = folder
    return folder / "model.safetensors"


KEPT = (10 << 20) + 12345


def test_a_transfer_that_is_cut_off_goes_on_where_it_broke(fetch, hub, large):
    hub.cut_after[large.name] = KEPT
    fetched = fetch("some/large") / large.name
    assert fetched.read_bytes() == large.read_bytes()
    (_, first), (_, second) = hub.starts
    assert (first, 0 < second <= KEPT) == (0, True)
    assert hub.served[large.name] == large.stat().st_size + KEPT - second


def test_a_transfer_that_was_killed_goes_on_in_the_next_run(fetch, hub, large, tmp_path):
    hub.stall_after[large.name] = KEPT
    environment = os.environ | hub.environment | {"HF_HOME": str(tmp_path / "cache")}
    with subprocess.Popen([sys.executable, "-c", FETCH, "some/large"], env=environment) as process:
        assert hub.stalled.wait(60)
        (partial,) = wait_for(lambda: list((tmp_path / "cache").rglob("*.incomplete")))
        wait_for(lambda: partial.stat().st_size == KEPT)
        process.kill()
    hub.go_on.set()
    assert (fetch("some/large") / large.name).read_bytes() == large.read_bytes()
    assert hub.starts == [(large.name, 0), (large.name, KEPT)]
    assert not list((tmp_path / "cache").rglob("*.incomplete"))


def test_a_server_that_ignores_ranges_is_understood_where_headers_are_read(command, hub):
    hub.ignores_ranges = True
    hub.repositories["some/bnb_nf4"] = QUANTIZED / "bnb_nf4"  # whose shapes stand in the middle
    middle = command("inspect", "some/bnb_nf4", "--json", "--tensors")
    assert told(middle) == told(command("inspect", QUANTIZED / "bnb_nf4", "--json", "--tensors"))


def test_a_server_that_ignores_ranges_is_understood_where_a_transfer_goes_on(fetch, hub, large):
    hub.ignores_ranges = True
    hub.cut_after[large.name] = KEPT
    assert (fetch("some/large") / large.name).read_bytes() == large.read_bytes()
    assert hub.starts == [(large.name, 0)] * 2


def test_a_part_that_is_not_the_one_asked_for_is_no_part_of_a_file(command, hub, large):
    hub.shifts_ranges = 5
    hub.cut_after[large.name] = KEPT
    for arguments in (("convert", "some/large", "--dry-run"), ("convert", "some/large", "m.gguf")):
        done = command(*arguments)
        assert done.returncode == 4
        assert "a part from byte " in done.stderr.splitlines()[-1]
        assert "came instead of one from byte " in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "name", ["/tmp/outside/config.json", "../config.json", "a/../../config.json", "C:\\config.json"]
)
def test_a_listing_that_leads_out_of_the_repository_is_refused_before_anything_is_fetched(name, command, hub, tmp_path):
    hub.more_names = (name,)
    for arguments in (("plan", "some/qwen3", *OPTIONS["plan"]), ("convert", "some/qwen3", "m.gguf")):
        done = command(*arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (4, 1)
        assert "as a file of some/qwen3, which is outside any repository; nothing was fetched" in done.stderr
    assert hub.served == {}
    assert cached_files(tmp_path) == set()
    assert not Path("/tmp/outside").exists()


def test_shards_in_a_folder_of_the_repository_are_told_and_fetched(command, hub, tmp_path):
    folder = tmp_path / "mixtral"
    index = folder / "model.safetensors.index.json"
    (folder / "parts").mkdir()
    (folder / SHARDS[1]).rename(folder / "parts" / SHARDS[1])
    index.write_text(index.read_text().replace(SHARDS[1], f"parts/{SHARDS[1]}"))
    dry, whole = command("convert", "some/mixtral", "--dry-run", "--json"), command("convert", "some/mixtral", "m.gguf")
    assert (dry.returncode, whole.returncode) == (0, 0), dry.stderr + whole.stderr
    assert told(dry) == told(command("convert", folder, "--dry-run", "--json"))


def wait_for(question):
    for _ in range(600):
        if answer := question():
            return answer
        time.sleep(0.05)
    raise AssertionError("it did not come about within 30 seconds")


OPTIONS = {
    "plan": ("--vram", "64MiB", "--ram", "1GiB", "--ctx", "512", "-p", "q8_0", "--no-cache"),
    "inspect": (),
    "convert": ("--dry-run",),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_headers_are_all_that_is_fetched_where_weights_do_not_matter(name, command, hub, tmp_path):
    options = OPTIONS[name]
    from_hub = command(name, "some/mixtral", *options, "--json")
    assert from_hub.returncode == 0, from_hub.stderr
    for shard in SHARDS:
        header = int.from_bytes((tmp_path / "mixtral" / shard).read_bytes()[:8], "little") + 8
        assert header <= hub.served[shard] <= max(header, 1 << 15)
    assert not cached_files(tmp_path) & set(SHARDS)
    from_directory = command(name, tmp_path / "mixtral", *options, "--json")
    assert told(from_hub) == told(from_directory)


def test_formats_that_keep_shapes_in_tensors_are_told_from_headers_too(command, hub, tmp_path):
    hub.repositories["some/bnb_nf4"] = QUANTIZED / "bnb_nf4"
    from_hub = command("inspect", "some/bnb_nf4", "--json", "--tensors")
    assert from_hub.returncode == 0, from_hub.stderr
    assert hub.served["model.safetensors"] < (QUANTIZED / "bnb_nf4" / "model.safetensors").stat().st_size // 4
    assert told(from_hub) == told(command("inspect", QUANTIZED / "bnb_nf4", "--json", "--tensors"))


def test_a_dry_run_of_a_quantized_model_has_its_weights_for_what_it_measures(command, hub):
    hub.repositories["some/awq_4bit"] = QUANTIZED / "awq_4bit"
    said = [command("convert", source, "--dry-run").stderr for source in ("some/awq_4bit", QUANTIZED / "awq_4bit")]
    assert "measured on" in said[0]
    assert said[1] in said[0]


def test_a_model_in_mistrals_own_format_is_told_from_its_header_and_converts(command, hub, tmp_path):
    directory = changed_case("mistral", tmp_path / "own", as_mistral_format)
    hub.repositories["some/own"] = directory
    dry = command("convert", "some/own", "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    assert hub.served["consolidated.safetensors"] < (directory / "consolidated.safetensors").stat().st_size // 4
    done = command("convert", "some/own", "m.gguf", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tensors"] == json.loads(dry.stdout)["tensors"]


def test_a_shard_that_is_no_safetensors_file_is_refused(command, hub, tmp_path):
    (tmp_path / "qwen3" / "model.safetensors").write_bytes(b"<!DOCTYPE html>" * 99)
    done = command("inspect", "some/qwen3")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "model.safetensors of some/qwen3 begins with a header of " in done.stderr


def told(done):
    """Return what a command found; the name of the organization makes the file a few bytes longer."""
    document = json.loads(done.stdout)
    for part in (document, *document.get("choices", []), *document.get("files", [])):
        part.pop("file_bytes", None)
    return {key: value for key, value in document.items() if key not in ("paths", "seconds")}


def test_a_gated_model_comes_with_advice_and_a_token_opens_it(command, hub):
    hub.gated = frozenset({"some/qwen3"})
    without = command("convert", "some/qwen3", "--dry-run")
    assert without.returncode == 4
    assert without.stderr.splitlines() == [
        "error: some/qwen3 is gated: accept its licence at https://huggingface.co/some/qwen3, then run `hf auth login`, "
        "or set HF_TOKEN"
    ]
    wrong = command("convert", "some/qwen3", "--dry-run", HF_TOKEN="hf_of_another")
    assert wrong.returncode == 4
    assert "your token's account has no access" in wrong.stderr
    assert command("convert", "some/qwen3", "--dry-run", HF_TOKEN=TOKEN).returncode == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("some/mistral", "some/mistral is neither a directory here nor a model on the hub that you may see"),
        ("some/qwen3@v2", "some/qwen3 has no revision 'v2'"),
    ],
)
def test_what_the_hub_does_not_have_is_refused_in_a_line(source, message, command):
    done = command("plan", source, "--vram", "1GiB")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_without_the_hub_the_cache_serves_and_without_both_it_is_said(command, fetch, tmp_path):
    absent = command("convert", "some/qwen3", "--dry-run", HF_ENDPOINT="http://127.0.0.1:9")
    assert absent.returncode == 4
    assert "some/qwen3 cannot be fetched from the hub: " in absent.stderr
    never = command("convert", "some/qwen3", "--dry-run", "--local-files-only")
    assert never.returncode == 2
    assert f"nor in {tmp_path / 'cache' / 'hub'}; leave out --local-files-only" in never.stderr
    fetch("some/qwen3")
    offline = command("convert", "some/qwen3", "--dry-run", HF_HUB_OFFLINE="1")
    assert offline.returncode == 0
    assert "the copy in the cache is used" in offline.stderr
    only = command("convert", "some/qwen3", "--dry-run", "--local-files-only", HF_ENDPOINT="http://127.0.0.1:9")
    assert (only.returncode, only.stderr) == (0, "")


def test_a_directory_of_that_name_wins(monkeypatch, tmp_path):
    (tmp_path / "some" / "mixtral").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with ExitStack() as scratch:
        assert resolve_source("some/mixtral", LOGGING, scratch) == Path("some/mixtral")


def test_a_model_that_the_disk_cannot_hold_is_refused_before_a_byte(hub, monkeypatch, tmp_path):
    from collections import namedtuple

    from toolkit.errors import OutputError
    from toolkit.hub import repository as module

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(100, 1, 99))
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "nowhere" / "yet")
    repository = module.Repository(HubModel("a/b"), "0" * 40, {"config.json": 10, "model.safetensors": 1000})
    with pytest.raises(OutputError, match=r"1010 B are to be fetched, 99 B are free; make room, or set HF_HOME"):
        module.download_checkpoint(repository, LOGGING)


@pytest.mark.parametrize(
    ("listing", "weights"),
    [
        (["model.safetensors", "pytorch_model.bin"], ("model.safetensors",)),
        (
            ["pytorch_model-00001-of-00001.bin", "training_args.bin", "optimizer.bin"],
            ("pytorch_model-00001-of-00001.bin",),
        ),
        (["weights.safetensors", "adapter_model.safetensors"], ("weights.safetensors",)),
        (["onnx/model.safetensors", "original/consolidated.00.pth"], ()),
        (["consolidated.safetensors", "params.json", "model.safetensors"], ("model.safetensors",)),
    ],
)
def test_the_weights_are_those_that_a_directory_would_be_read_for(listing, weights):
    needed = needed_files(["config.json", *listing])
    assert (needed.index, needed.weights) == (None, weights)


@pytest.mark.parametrize("case", case_names())
def test_all_files_of_the_kits_checkpoints_are_needed(case, kit_checkpoint):
    root = kit_checkpoint(case)
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    needed = needed_files(files)
    assert files - {*needed.description, *needed.weights} == (set(SHARDS) if needed.index else set())


def test_a_model_in_pytorchs_format_is_planned_from_its_config(command, hub, tmp_path):
    (tmp_path / "qwen3" / "model.safetensors").rename(tmp_path / "qwen3" / "pytorch_model.bin")
    done = command("plan", "some/qwen3", *OPTIONS["plan"], "--json")
    assert done.returncode == 0, done.stderr
    assert "are not known before it is fetched" in done.stderr
    assert "pytorch_model.bin" not in hub.served


def test_mistrals_own_format_is_fetched_where_there_is_no_other():
    listing = ["consolidated.safetensors", "params.json", "tekken.json", "README.md", "vision.png"]
    needed = needed_files(listing)
    assert (needed.index, needed.weights) == (None, ("consolidated.safetensors",))
    assert needed.description == ("README.md", "params.json", "tekken.json")


def test_an_index_decides_alone_and_an_adapter_comes_whole():
    listing = ["config.json", "model.safetensors", "model.safetensors.index.json"]
    assert needed_files(listing).index == "model.safetensors.index.json"
    adapter = ["adapter_config.json", "adapter_model.safetensors", "README.md", "optimizer.bin"]
    assert needed_files(adapter).weights == ("adapter_config.json", "adapter_model.safetensors")
    of_mlx = ["adapter_config.json", "0000100_adapters.safetensors", "adapters.safetensors"]
    assert needed_files(of_mlx).weights == ("adapter_config.json", "adapters.safetensors")


@pytest.mark.parametrize(
    "path", ["./some/model", "model", "/a/b", "a/b/c", "models/m.gguf", "a\\b", "folder/config.json"]
)
def test_paths_are_not_taken_for_models(path):
    assert parse_hub_model(path) is None


def test_names_of_models_are_understood_with_revision_and_as_address():
    assert parse_hub_model("org/Name-1.5B") == HubModel("org/Name-1.5B")
    assert parse_hub_model("org/name@refs/pr/1") == HubModel("org/name", "refs/pr/1")
    assert parse_hub_model("https://huggingface.co/org/name/") == HubModel("org/name")
