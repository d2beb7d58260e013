"""Every reader of files from strangers, and every command, by name: what to damage and what to call."""

import io
import json
import shutil
import struct
from collections.abc import Callable, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy
from checkpoints import write_checkpoint
from editable_checkpoint import edit_case, read_safetensors, write_safetensors
from fuzzing.cases import Case, Read
from fuzzing.gguf_damage import damaged_gguf
from fuzzing.mutations import damaged
from lora_adapters import ATTENTION, MLP, AdapterShape, make_adapter
from tiny_model import TinyShape, write_tiny_model
from tokenizer.rank_files import SPECIAL_V7, ranked_tokens, tekken_json, tiktoken_lines, write_json
from torch_files import write_torch

ROOT = Path(__file__).parents[2]
QUANTIZED = ROOT / "tests" / "kit" / "quantized" / "checkpoints"
CARD = "---\nlicense: mit\nlanguage: [en, no]\ntags:\n- a\n- b\nbase_model: org/Base-7B\nmodel_name: A 1.5\n---\n# A\n"
JSON_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Target:
    """A reader or a command."""

    name: str
    make: Callable[[Path], Case]
    share: float = 1.0
    """of the runs, beside 1 for a reader that takes about a millisecond"""


def _of_kit(case: str, read: Read, *names: str, weights: bool = False) -> Callable[[Path], Case]:
    """A checkpoint of the kit, of which the named files are damaged."""

    def make(folder: Path) -> Case:
        directory = write_checkpoint(case, folder)
        (directory / "README.md").write_text(CARD, encoding="utf-8")
        (directory / "generation_config.json").write_text(
            '{"temperature": 0.5, "eos_token_id": [1, 2]}', encoding="utf-8"
        )
        found = [name for name in names if (directory / name).is_file()]
        return Case(directory, read, [*found, *(["model.safetensors"] if weights else [])])

    return make


def _source(folder: Path, _random: Random) -> None:
    from toolkit.sources.hf_source import source_from_checkpoint

    source = source_from_checkpoint(folder)
    for profile in ("q4_k_m", "keep"):
        _planned(source, profile)


def _planned(source, profile: str) -> None:  # type: ignore[no-untyped-def]
    from toolkit.conversion.tensor_plan import plan_conversion
    from toolkit.quant_profile import load_profile

    plan_conversion(source, load_profile(profile))


def _config(folder: Path, _random: Random) -> None:
    from toolkit.sources.config_source import source_from_config

    _planned(source_from_config(folder / "config.json"), "q8_0")


def _tokenizer(*styles: str, pre: str | None = None) -> Read:
    def read(folder: Path, _random: Random) -> None:
        from toolkit.gguf.layout import lay_out
        from toolkit.tokenizer import TokenizerRequest, read_tokenizer
        from toolkit.tokenizer.encoding import source_encoder

        lay_out(read_tokenizer(TokenizerRequest(folder, {}, 600, styles, pre)).metadata, [])
        encoder = source_encoder(folder, "llama")
        if encoder is not None:
            encoder.encode("one 2 three <s>")

    return read


def _vocabulary(write: Callable[[Path], object], *styles: str, pre: str | None = None) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        folder.mkdir(exist_ok=True)
        write(folder)
        (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>", "add_bos_token": true}', encoding="utf-8")
        return Case(folder, _tokenizer(*styles, pre=pre))

    return make


def _write_tekken(folder: Path) -> None:
    write_json(folder / "tekken.json", tekken_json(ranked_tokens("mistral_nemo"), SPECIAL_V7, 24, "v7"))


def _write_tiktoken(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(tiktoken_lines(ranked_tokens("mistral_nemo")), encoding="utf-8")


def _write_slow_bpe(folder: Path) -> None:
    content = json.loads((ROOT / "tests/kit/sources/gpt2/tokenizer.json").read_text(encoding="utf-8"))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]
    (folder / "vocab.json").write_text(json.dumps(content["model"]["vocab"]), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")
    (folder / "added_tokens.json").write_text('{"<a>": 590}', encoding="utf-8")
    (folder / "special_tokens_map.json").write_text('{"bos_token": {"content": "<a>"}}', encoding="utf-8")


def _write_wordpiece(folder: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c", "word", "##s"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")


def _gguf(folder: Path) -> Case:
    return Case(_tiny(folder), _read_gguf, damage=damaged_gguf)


def _tiny(folder: Path, name: str = "a.gguf") -> Path:
    folder.mkdir(exist_ok=True)
    write_tiny_model(folder / name, TinyShape(n_embd=64, n_ff=64, n_head=2, n_head_kv=1))
    return folder


def _read_gguf(folder: Path, _random: Random) -> None:
    from toolkit.gguf.format import ModelKeys
    from toolkit.gguf.reader import read_gguf
    from toolkit.memory.kv_cache import kv_cache, layer_states
    from toolkit.sources.gguf_source import source_from_gguf
    from toolkit.verbs.model_summary import summarize, summarize_tensor

    file = read_gguf(folder / "a.gguf")
    summarize(file.metadata, [summarize_tensor(name, rows.shape, rows.type) for name, rows in file.tensors.items()])
    kv_cache(ModelKeys(file.metadata))
    layer_states(ModelKeys(file.metadata))
    source = source_from_gguf(folder / "a.gguf", allow_requantize=True)
    for profile in ("q4_k_m", "keep"):
        _planned(source, profile)


def _split(folder: Path) -> Case:
    _tiny(folder, "whole.gguf")
    from toolkit.conversion.shards import ShardLimit, split_plan
    from toolkit.conversion.tensor_plan import plan_conversion
    from toolkit.gguf.shard_names import shard_path
    from toolkit.quant_profile import load_profile
    from toolkit.sources.gguf_source import source_from_gguf

    plan = plan_conversion(source_from_gguf(folder / "whole.gguf"), load_profile("f16"))
    shards = split_plan(plan, ShardLimit(max_bytes=150_000))
    for number, shard in enumerate(shards, 1):
        path = shard_path(folder / "a-00001-of-00001.gguf", number, len(shards))
        path.write_bytes(shard.layout.header + bytes(shard.layout.file_bytes - len(shard.layout.header)))
    (folder / "whole.gguf").unlink()
    return Case(folder, _read_split, damage=damaged_gguf)


def _read_split(folder: Path, random: Random) -> None:
    from toolkit.gguf.merge import plan_merge
    from toolkit.gguf.reader import read_gguf

    paths = sorted(folder.glob("*.gguf"))
    read_gguf(random.choice(paths))
    plan_merge(paths[0])


def _safetensors(folder: Path) -> Case:
    folder.mkdir(exist_ok=True)
    tensors = {f"t{i}": ("F16", numpy.zeros((4, 8), "<f2")) for i in range(3)} | {"b": ("F32", numpy.ones(3, "<f4"))}
    write_safetensors(folder / "a.safetensors", tensors, {"format": "pt"})

    def read(folder: Path, _random: Random) -> None:
        from toolkit.checkpoint.safetensors_reader import read_metadata, read_safetensors

        for tensor in read_safetensors(folder / "a.safetensors").values():
            if 0 < tensor.n_bytes < 1 << 20 and len(tensor.shape) > 0:
                tensor.rows().read_rows(0, 1)
        read_metadata(folder / "a.safetensors")

    return Case(folder, read)


def _torch(folder: Path) -> Case:
    folder.mkdir(exist_ok=True)
    write_torch(folder / "a.bin", {f"t{i}": ("F16", numpy.zeros((4, 8), "<f2")) for i in range(3)})

    def read(folder: Path, _random: Random) -> None:
        from toolkit.checkpoint.torch_reader import read_torch

        for tensor in read_torch(folder / "a.bin").values():
            if 0 < tensor.n_bytes < 1 << 20 and len(tensor.shape) > 0:
                tensor.rows().read_rows(0, 1)

    return Case(folder, read)


def _pickle(folder: Path) -> Case:
    import zipfile

    _torch(folder)
    with zipfile.ZipFile(folder / "a.bin") as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        (folder / "data.pkl").write_bytes(archive.read(name))
    (folder / "a.bin").unlink()

    def read(folder: Path, _random: Random) -> None:
        from toolkit.checkpoint.pickle_reader import read_state_dict

        read_state_dict((folder / "data.pkl").read_bytes(), "data.pkl")

    return Case(folder, read)


def _card(folder: Path) -> Case:
    make = _of_kit("llama2", _general, "README.md", "generation_config.json", "config.json")
    return make(folder)


def _general(folder: Path, _random: Random) -> None:
    from toolkit.gguf.layout import lay_out
    from toolkit.sources.model_card import ParameterCount, general_metadata

    lay_out(general_metadata(folder, "llama", ParameterCount(1000, 1000, 0, 0)).metadata, [])


def _imatrix(legacy: bool) -> Callable[[Path], Case]:
    name = "a.dat" if legacy else "a.gguf"

    def make(folder: Path) -> Case:
        folder.mkdir(exist_ok=True)
        _write_imatrix(folder / name, legacy)
        return Case(folder, read, damage=damaged_gguf)

    def read(folder: Path, _random: Random) -> None:
        from toolkit.importance.layers import layer_importance
        from toolkit.importance.matrix import check_against, read_imatrix, read_sums
        from toolkit.importance.sums import merge_sums

        check_against(
            read_imatrix(folder / name), [("blk.0.attn_q.weight", (64, 64)), ("blk.1.ffn_down.weight", (64, 64))]
        )
        sums = read_sums(folder / name)
        layer_importance(sums)
        merge_sums([sums, sums])

    return make


def _write_imatrix(path: Path, legacy: bool) -> None:
    names = [f"blk.{layer}.{part}.weight" for layer in range(2) for part in ("attn_q", "ffn_down")]
    if legacy:
        text = struct.pack("<i", len(names))
        for name in names:
            text += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 5, 64)
            text += numpy.ones(64, "<f4").tobytes()
        path.write_bytes(text + struct.pack("<ii", 5, 4) + b"text")
        return
    from toolkit.importance.sums import ImatrixSums, TensorSums, write_imatrix

    entries = {name: TensorSums(numpy.ones((1, 64), numpy.float32), numpy.ones(1, numpy.int64)) for name in names}
    write_imatrix(ImatrixSums(entries, 512, ("text",)), path)


def _lora(folder: Path) -> Case:
    base = edit_case("llama3", folder)
    base.save()
    shape = AdapterShape((*ATTENTION, *MLP), settings={"alpha_pattern": {"q_proj": 3, "layers.1.mlp.*": 20}})
    adapter = make_adapter(base, folder / "adapter", shape)

    def read(adapter: Path, _random: Random) -> None:
        from toolkit.lora import plan_adapter, read_adapter

        plan_adapter(read_adapter(adapter), base.directory, "f16")

    return Case(adapter, read)


def _profile(folder: Path) -> Case:
    folder.mkdir(exist_ok=True)
    for name in ("q4_k_m", "iq2_xs"):
        shutil.copyfile(ROOT / "quant_profiles" / f"{name}.toml", folder / f"{name}.toml")

    def read(folder: Path, _random: Random) -> None:
        from toolkit.quant_profile import EXAMPLE_MODELS, load_profile
        from toolkit.quant_profile.assignment import assign_types

        for file in sorted(folder.iterdir()):
            profile = load_profile(str(file))
            example = next(iter(EXAMPLE_MODELS.values()))
            assign_types(profile, list(example.tensors())[:40], example.traits, True)

    return Case(folder, read)


def _logits(folder: Path) -> Case:
    folder.mkdir(exist_ok=True)
    n_ctx, n_vocab, chunks = 8, 10, 2
    rows = chunks * (n_ctx - 1 - n_ctx // 2)
    length = 2 * ((n_vocab + 1) // 2) + 4
    data = struct.pack("<8siii", b"_logits_", n_ctx, n_vocab, chunks) + numpy.zeros(n_ctx * chunks, "<i4").tobytes()
    (folder / "a.logits").write_bytes(data + numpy.ones(rows * length, "<u2").tobytes())

    def read(folder: Path, _random: Random) -> None:
        from toolkit.measures.logits_file import read_logits

        read_logits(folder / "a.logits")

    return Case(folder, read)


def _kept(folder: Path) -> Case:
    folder.mkdir(exist_ok=True)
    from dataclasses import asdict

    from made_up_comparison import divergence, quality

    (folder / "kept.json").write_text(json.dumps(asdict(quality(divergence(0.01)))), encoding="utf-8")

    def read(folder: Path, random: Random) -> None:
        from toolkit.comparison.figures import measurement_of
        from toolkit.comparison.store import ComparisonStore
        from toolkit.machine.disk_cache import DiskCache

        data = (folder / "kept.json").read_bytes()
        store = ComparisonStore(folder / "cache")
        store._kept = _Kept(data) if random.random() < 0.7 else DiskCache(folder / "cache")  # type: ignore[assignment]
        found = store.quality("key")
        if found is not None:
            measurement_of(found)

    return Case(folder, read, ["kept.json"])


class _Kept:
    """A folder that gives a damaged document for every key, as if its digest were right."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def get(self, _key: object) -> object:
        try:
            return json.loads(self._data)
        except (ValueError, RecursionError):
            return None


def _verdicts(folder: Path) -> Case:
    folder.mkdir(exist_ok=True)
    shutil.copyfile(ROOT / "toolkit" / "measures" / "verdicts.toml", folder / "verdicts.toml")

    def read(folder: Path, _random: Random) -> None:
        from toolkit.measures.verdict_rules import read_verdict_rules

        read_verdict_rules(folder / "verdicts.toml")

    return Case(folder, read)


def _index(folder: Path) -> Case:
    directory = write_checkpoint("llama3", folder)
    tensors = read_safetensors(directory / "model.safetensors")
    names = list(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in parts.items():
        write_safetensors(directory / file, {name: tensors[name] for name in held})
    (directory / "model.safetensors").unlink()
    weight_map = {name: file for file, held in parts.items() for name in held}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")

    def read(folder: Path, _random: Random) -> None:
        from toolkit.checkpoint.checkpoint import open_checkpoint

        open_checkpoint(folder)

    return Case(directory, read, ["model.safetensors.index.json"])


def _listing(folder: Path) -> Case:
    folder.mkdir(exist_ok=True)
    names = ["config.json", "model.safetensors", "README.md", "tokenizer.json", "1_Pooling/config.json", "x.gguf"]
    siblings = [{"rfilename": name, "size": 10, "blobId": "a"} for name in names]
    content = {"id": "org/name", "sha": "0" * 40, "siblings": siblings, "tags": [], "private": False}
    (folder / "listing.json").write_text(json.dumps(content), encoding="utf-8")
    return Case(folder, _read_listing)


def _read_listing(folder: Path, _random: Random) -> None:
    from fuzzing.hub import serving

    from toolkit.hub import HubModel, open_repository

    with serving((folder / "listing.json").read_bytes()):
        repository = open_repository(HubModel("org/name", "main"))
        needed = repository.needed
        if needed.index is None:
            _ = repository.weights
        repository.absent(needed.description)


def _quantized(name: str) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        directory = folder / name
        shutil.copytree(QUANTIZED / name, directory, copy_function=shutil.copyfile)
        weights = sorted(file.name for file in directory.glob("*.safetensors"))
        base = write_checkpoint("llama3", folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            if not (directory / file).exists():
                shutil.copyfile(base / file, directory / file)
        return Case(directory, _source, ["config.json", "config.json", *weights][1:])

    return make


def _auto_round(folder: Path) -> Case:
    case = _quantized("gptq_4bit")(folder)
    file = case.folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["quantization_config"] |= {
        "quant_method": "auto-round",
        "packing_format": "auto_round:auto_gptq",
        "extra_config": {"model.layers.0.mlp.up_proj": {"bits": 4, "sym": True}, "o_proj": {"group_size": 128}},
    }
    file.write_text(json.dumps(config), encoding="utf-8")
    return Case(case.folder, case.read, list(case.whole))


def _torchao(folder: Path) -> Case:
    directory = folder / "torchao"
    directory.mkdir(parents=True)
    shutil.copyfile(ROOT / "tests" / "golden" / "torchao.safetensors", directory / "model.safetensors")
    config = {"quantization_config": {"quant_method": "torchao"}}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")

    def read(directory: Path, _random: Random) -> None:
        from toolkit.checkpoint.checkpoint import open_checkpoint
        from toolkit.quantized_sources.registry import decode_checkpoint

        for tensor in decode_checkpoint(open_checkpoint(directory))[0].tensors.values():
            tensor.rows().read_rows(0, 1)

    return Case(directory, read, ["model.safetensors"])


def _mlx_lora(folder: Path) -> Case:
    case = _lora(folder)
    tensors = {}
    for name, (dtype, values) in read_safetensors(case.folder / "adapter_model.safetensors").items():
        module, _, side = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
        tensors[f"{module}.{side.lower()}"] = (dtype, values.T.copy())
    (case.folder / "adapter_model.safetensors").unlink()
    write_safetensors(case.folder / "adapters.safetensors", tensors)
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 2.0}}
    (case.folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return Case(case.folder, case.read)


def _command(
    *words: str, files: Callable[[Path], Path], names: Sequence[str] = (), gguf: bool = False
) -> Callable[[Path], Case]:
    """A command in this process: its words, in which {} is the folder, sometimes with options that are damaged."""

    def make(folder: Path) -> Case:
        return Case(files(folder), read, names, damaged_gguf if gguf else damaged)

    def read(folder: Path, random: Random) -> None:
        arguments = [word.replace("{}", str(folder)) for word in words]
        if random.random() < 0.2:
            arguments = _other_arguments(arguments, random)
        # A word in the place of an output is written to.
        with chdir(folder):
            _call(arguments)

    return make


def _other_arguments(arguments: list[str], random: Random) -> list[str]:
    odd = (
        "",
        "-1",
        "99999999999999999999",
        "1e400",
        "nan",
        "8GiB",
        "\x1b[31m",
        "{}",
        "--json",
        "--force",
        "--ctx",
        "--vram",
        "a=b",
        "0",
        "é",
    )
    changed = list(arguments)
    for _ in range(random.choice((1, 2))):
        at = random.randrange(1, len(changed) + 1)
        if random.random() < 0.5:
            changed.insert(at, random.choice(odd))
        elif at < len(changed):
            changed[at] = random.choice(odd)
    return changed


def _call(arguments: list[str]) -> None:
    from toolkit.cli import cli

    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    with redirect_stdout(output), redirect_stderr(output):
        cli(arguments, standalone_mode=False)


def _checkpoint(folder: Path) -> Path:
    directory = write_checkpoint("llama3", folder)
    (directory / "README.md").write_text(CARD, encoding="utf-8")
    return directory


def _model(folder: Path) -> Path:
    return _tiny(folder)


def _adapter(folder: Path) -> Path:
    base = edit_case("llama3", folder)
    base.save()
    adapter = make_adapter(base, folder / "adapter", AdapterShape(ATTENTION))
    (adapter / "base.json").write_bytes((base.directory / "config.json").read_bytes())
    return adapter


def _matrix(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    _write_imatrix(folder / "a.gguf", legacy=False)
    return folder


def _profile_file(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    shutil.copyfile(ROOT / "quant_profiles" / "q4_k_m.toml", folder / "a.toml")
    return folder


def _split_set(folder: Path) -> Path:
    return _split(folder).folder


def _loading(name: str, *words: str) -> Target:
    """A command that loads the model natively once its header has been read: few runs, for each may take a second."""
    return Target(f"command {name}", _command(*words, files=_model, gguf=True), 0.0004)


READERS = (
    Target("gguf", _gguf, 1.0),
    Target("split", _split, 0.6),
    Target("safetensors", _safetensors, 5.0),
    Target("torch", _torch, 4.0),
    Target("pickle", _pickle, 8.0),
    Target("config", _of_kit("llama3", _config, "config.json"), 0.5),
    Target("config mixtral", _of_kit("mixtral", _config, "config.json"), 0.3),
    Target("config gemma3", _of_kit("gemma3", _config, "config.json"), 0.3),
    Target("config deepseek", _of_kit("deepseek_v2", _config, "config.json"), 0.2),
    Target("config falcon_h1", _of_kit("falcon_h1", _config, "config.json"), 0.3),
    Target("config qwen3_next", _of_kit("qwen3_next", _config, "config.json"), 0.1),
    Target("config xlm_roberta", _of_kit("xlm_roberta", _config, "config.json"), 0.3),
    Target("config t5", _of_kit("t5", _config, "config.json"), 0.3),
    Target(
        "checkpoint", _of_kit("llama3", _source, *JSON_FILES, "README.md", "generation_config.json", weights=True), 0.15
    ),
    Target("checkpoint gemma", _of_kit("gemma2", _source, *JSON_FILES, "tokenizer.model"), 0.1),
    Target("quantized gptq", _quantized("gptq_4bit"), 0.1),
    Target("quantized compressed", _quantized("compressed_int4"), 0.1),
    Target("quantized auto-round", _auto_round, 0.1),
    Target("quantized torchao", _torchao, 0.3),
    Target("index", _index, 2.0),
    Target("tokenizer.json", _of_kit("llama3", _tokenizer("bpe"), "tokenizer.json", "tokenizer_config.json"), 0.3),
    Target(
        "tokenizer.model",
        _of_kit("llama2", _tokenizer("sentencepiece"), "tokenizer.model", "tokenizer_config.json"),
        0.3,
    ),
    Target(
        "unigram",
        _of_kit("xlm_roberta", _tokenizer("xlm_roberta"), "sentencepiece.bpe.model", "tokenizer_config.json"),
        0.3,
    ),
    Target("tekken.json", _vocabulary(_write_tekken, "tekken"), 0.3),
    Target("tiktoken", _vocabulary(_write_tiktoken("qwen.tiktoken"), "qwen_tiktoken"), 0.3),
    Target("tiktoken kimi", _vocabulary(_write_tiktoken("tiktoken.model"), "kimi_tiktoken"), 0.3),
    Target("vocab and merges", _vocabulary(_write_slow_bpe, "bpe", pre="gpt-2"), 0.3),
    Target("vocab.txt", _vocabulary(_write_wordpiece, "wordpiece"), 1.0),
    Target("model card", _card, 3.0),
    Target("imatrix", _imatrix(legacy=False), 2.0),
    Target("imatrix legacy", _imatrix(legacy=True), 4.0),
    Target("lora", _lora, 0.4),
    Target("lora mlx", _mlx_lora, 0.4),
    Target("profile", _profile, 0.3),
    Target("logits", _logits, 4.0),
    Target("kept comparison", _kept, 1.0),
    Target("verdicts", _verdicts, 0.5),
    Target("hub listing", _listing, 0.05),
)
COMMANDS = (
    Target("command inspect", _command("inspect", "{}/a.gguf", files=_model, gguf=True), 0.1),
    Target(
        "command inspect folder", _command("inspect", "{}", files=_checkpoint, names=(*JSON_FILES, "README.md")), 0.05
    ),
    Target(
        "command convert",
        _command("convert", "{}", "--dry-run", files=_checkpoint, names=(*JSON_FILES, "README.md")),
        0.05,
    ),
    Target(
        "command convert-lora",
        _command("convert-lora", "{}", "{}/out.gguf", "--base", "{}/base.json", "--force", files=_adapter),
        0.02,
    ),
    Target("command quantize", _command("quantize", "{}/a.gguf", "--dry-run", files=_model, gguf=True), 0.05),
    Target(
        "command merge",
        _command("merge", "{}/a-00001-of-00002.gguf", "{}/out.gguf", "--force", files=_split_set, gguf=True),
        0.05,
    ),
    Target("command profiles check", _command("profiles", "check", "{}/a.toml", files=_profile_file), 0.01),
    Target("command profiles show", _command("profiles", "show", "{}/a.toml", files=_profile_file), 0.1),
    Target("command imatrix show", _command("imatrix", "show", "{}/a.gguf", files=_matrix, gguf=True), 0.1),
    Target(
        "command imatrix merge",
        _command(
            "imatrix", "merge", "{}/a.gguf", "{}/a.gguf", "-o", "{}/out.gguf", "--force", files=_matrix, gguf=True
        ),
        0.05,
    ),
    Target("command architectures", _command("architectures", "--refused", files=_profile_file), 0.01),
    Target("command schema", _command("schema", "plan", files=_profile_file), 0.01),
    _loading("plan", "plan", "{}/a.gguf", "--vram", "1GiB", "--no-cache"),
    _loading("verify", "verify", "{}/a.gguf", "--source", "{}/a.gguf", "--no-run"),
    _loading("run", "run", "{}/a.gguf", "-p", "a", "-n", "1", "--raw"),
    _loading("perplexity", "perplexity", "{}/a.gguf", "--chunks", "1"),
    _loading("kld", "kld", "{}/a.gguf", "--base", "{}/a.gguf", "--chunks", "1"),
    _loading("bench", "bench", "{}/a.gguf"),
    _loading("imatrix collect", "imatrix", "{}/a.gguf", "-o", "{}/out.gguf", "--chunks", "1"),
    _loading("fit", "fit", "{}/a.gguf", "--vram", "1GiB"),
    _loading("compare", "compare", "{}/a.gguf", "--chunks", "1"),
    Target("command doctor", _command("doctor", files=_profile_file), 0.0002),
)
TARGETS = {target.name: target for target in (*READERS, *COMMANDS)}
