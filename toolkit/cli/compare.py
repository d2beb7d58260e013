"""`compare`: files side by side, what each takes and what it loses, and which one to take."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import COUNT, emit_json, json_option, note, warn
from toolkit.cli.measuring import value_bar
from toolkit.cli.places import budget_options, kv_pair, memory_asker
from toolkit.cli.planning import plan_request, planning_options, warn_of_long_context
from toolkit.cli.source import local_files_option, resolve_source
from toolkit.errors import InputError

if TYPE_CHECKING:
    from toolkit.comparison.contestants import Contestant, Conversions
    from toolkit.comparison.quality import TextRequest
    from toolkit.comparison.rows import Comparison, Method
    from toolkit.comparison.run import Job
    from toolkit.comparison.store import ComparisonStore
    from toolkit.token_rate import RateSettings
    from toolkit.verdict import Standard

EXAMPLE = """
\b
Examples:
  gguf-toolkit compare demo --profiles q8_0,q6_k,q5_k_m,q4_k_m,q3_k_m,q2_k --vram 16MiB --ctx 512 --report demo.html
  gguf-toolkit compare a-q4_k_m.gguf b-q4_k_m.gguf --base model-bf16.gguf --vram 8GiB --ctx 16k
  gguf-toolkit compare ./checkpoint --profiles q6_k,q4_k_m --text code=repo.txt --text language=korean.txt --use code
  gguf-toolkit compare model-q8_0.gguf --base model-bf16.gguf --kv f16,q8_0,q4_0 --markdown table.md
"""
_LEAST_WINDOWS = 10
"""of texts in long windows, which are fewer for the same number of tokens"""


def _list(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


def _kinds(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(part.lower() for part in _list(context, parameter, value)))
    for kind in kinds:
        kv_pair(kind)
    return kinds


@click.command(epilog=EXAMPLE)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--profiles", callback=_list, metavar="NAME[,NAME...]", help="Convert one MODEL with each of these.")
@click.option("--base", type=click.Path(path_type=Path), help="The unquantized model; default: the MODEL as it is.")
@click.option("--imatrix", type=click.Path(path_type=Path), help="Importance matrix for --profiles.")
@click.option(
    "--text", "texts", multiple=True, metavar="[KIND=]FILE", help="Text, and what it is a sample of; default: demo."
)
@click.option("--window", type=COUNT, default=512, show_default=True, help="Tokens of a window.")
@click.option("--chunks", type=click.IntRange(min=1), default=40, show_default=True, help="Windows of each text.")
@budget_options
@click.option("--ctx", "n_ctx", type=COUNT, default="4k", show_default=True, help="Context to plan memory for.")
@click.option(
    "--kv", default="f16", show_default=True, callback=_kinds, metavar="TYPE[,TYPE...]", help="KV cache types."
)
@click.option(
    "-p", "n_prompt", type=click.IntRange(min=1), default=512, show_default=True, help="Tokens of the prompt."
)
@click.option(
    "-n", "n_generate", type=click.IntRange(min=1), default=128, show_default=True, help="Tokens to generate."
)
@click.option("--repetitions", "-r", type=click.IntRange(min=1), default=3, show_default=True, help="Of token rates.")
@click.option("--no-rates", is_flag=True, help="Leave token rates out.")
@click.option("--use", metavar="USE", help="What the model is for: decides which file is advised.")
@click.option("--verdicts", type=click.Path(path_type=Path), help="Thresholds of your own (TOML).")
@click.option("--report", type=click.Path(path_type=Path), help="Write a page with table and pictures (HTML).")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write a table for a model card.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write comma-separated values.")
@click.option("--force", is_flag=True, help="Replace existing outputs.")
@click.option("--keep", type=click.Path(path_type=Path), metavar="DIR", help="Keep the files that --profiles makes.")
@click.option("--fresh", is_flag=True, help="Measure anew what is known from an earlier run.")
@click.option("--threads", "-t", type=click.IntRange(min=1), help="CPU threads; default: physical cores.")
@click.option("--pre", metavar="NAME", help="Name of the BPE pre-tokenizer, where it is not recognised.")
@local_files_option
@json_option
def command(models: tuple[str, ...], **options: Any) -> int:
    """Compare GGUF files, or --profiles of one checkpoint: size, memory, perplexity, divergence, token rates, verdicts.

    All are measured on the same windows of text against the unquantized model, so that differences are paired. A run
    that is stopped goes on where it was. KIND is one of chat, general, code, reasoning, long, language: a verdict for a use
    rests on text of its kind, and is unknown without. The exit code is that of the first file that failed, else 0.
    """
    from toolkit.cli.compare_report import print_comparison
    from toolkit.report import comparison_document

    for path, _ in _outputs(options):
        _check(path, force=options["force"])
    comparison = _compared(models, options)
    for path, render in _outputs(options):
        _save(path, render(comparison), force=options["force"])
    if options["as_json"]:
        emit_json("compare", comparison_document(comparison))
    else:
        print_comparison(comparison)
    return next((row.exit_code for row in comparison.rows if row.error), 0)


def _outputs(options: dict[str, Any]) -> "list[tuple[Path, Callable[[Comparison], str]]]":
    """Return the files that were asked for, each with what writes it."""
    from toolkit.report import csv_text, markdown_text, page_html

    renderers = (("report", page_html), ("markdown", markdown_text), ("csv_file", csv_text))
    return [(options[name], render) for name, render in renderers if options[name] is not None]


def _check(path: Path, *, force: bool) -> None:
    from toolkit.output_file import check_output

    check_output(path, force=force)


def _save(path: Path, text: str, *, force: bool) -> None:
    from toolkit.output_file import whole_or_absent

    data = text.encode("utf-8")
    with whole_or_absent(path, len(data), force=force) as work:
        work.write(0, data)
    note(f"wrote {path}")


@dataclass(frozen=True)
class _Entrants:
    """What takes part, what it is called, and whose notes go with it."""

    name: str
    contestants: "tuple[Contestant, ...]"
    base: "Contestant | None"


def _compared(models: tuple[str, ...], options: dict[str, Any]) -> "Comparison":
    from toolkit.cli.common import installed_version
    from toolkit.comparison.machine import this_machine
    from toolkit.comparison.rows import Comparison
    from toolkit.comparison.run import Watcher, measure_rows
    from toolkit.comparison.store import ComparisonStore
    from toolkit.disk_cache import cache_folder
    from toolkit.verdict_file import read_standard

    standard = read_standard(options["verdicts"])
    use = _use(options["use"], standard)
    texts = _texts(options, standard)
    entrants = _entrants(models, options)
    store = ComparisonStore(cache_folder(), fresh=options["fresh"])
    job = _job(entrants, texts, store, options)
    notes = _notes(entrants, options)
    for message in notes:
        warn(message)
    with memory_asker(in_child=not job.plan.settings.rpc) as asker:
        rows = measure_rows(job, asker, Watcher(note, value_bar))
    if store.reused:
        note(f"{store.reused} measurements are from an earlier run; --fresh measures anew")
    method = _method(job, options)
    machine = this_machine(installed_version)
    return Comparison(entrants.name, rows, method, machine, standard, use, tuple(notes), _command())


def _use(name: str | None, standard: "Standard") -> str | None:
    names = [use.name for use in standard.uses]
    if name is not None and name not in names:
        raise InputError(f"--use {name!r} is not one of {', '.join(names)}")
    return name


def _texts(options: dict[str, Any], standard: "Standard") -> "tuple[TextRequest, ...]":
    """Return the texts, that of the use asked for first: rows are ranked by it."""
    from toolkit.comparison.quality import TextRequest
    from toolkit.evaluation_text import named_text

    window, chunks = options["window"], options["chunks"]
    requests = []
    for word in options["texts"] or ("demo",):
        kind, name = _kind_and_name(word, standard)
        n_ctx = max(window, standard.least_window(kind))
        count = chunks if n_ctx == window else max(_LEAST_WINDOWS, chunks * window // n_ctx)
        requests.append(TextRequest(kind, named_text(name), n_ctx, count))
    asked = next((use.text for use in standard.uses if use.name == options["use"]), None)
    return tuple(sorted(requests, key=lambda request: request.kind != asked))


def _kind_and_name(word: str, standard: "Standard") -> tuple[str, str]:
    from toolkit.verdict import GENERAL

    kind, equals, name = word.partition("=")
    if equals and kind in standard.kinds:
        return kind, name
    if equals and not Path(word).exists():
        raise InputError(f"--text {word}: {kind!r} is no kind of text; kinds are {', '.join(standard.kinds)}")
    return GENERAL, word


def _entrants(models: Sequence[str], options: dict[str, Any]) -> _Entrants:
    from toolkit.comparison.contestants import contestant_from_file

    given = options["base"]
    entrants = _profiles_of(models, options) if options["profiles"] else _files(models, options)
    if given is None:
        return entrants
    return replace(entrants, base=contestant_from_file(given, given.name.removesuffix(".gguf")))


def _files(models: Sequence[str], options: dict[str, Any]) -> _Entrants:
    from toolkit.comparison.contestants import contestants_from_files

    for option in ("imatrix", "keep"):
        if options[option] is not None:
            raise InputError(f"--{option} goes with --profiles, which makes files; here files are compared as they are")
    strange = next((model for model in models if not model.endswith(".gguf") and not Path(model).is_file()), None)
    if strange is not None:
        raise InputError(f"{strange} is no GGUF file; give --profiles to compare what can be made of a checkpoint")
    found = contestants_from_files([Path(model) for model in models])
    base = next((one for one in found if one.is_unquantized), None) if options["base"] is None else None
    return _Entrants(_common_name(found), tuple(found), base)


def _common_name(contestants: "Sequence[Contestant]") -> str:
    """Return the name that files give to their model, where they agree."""
    values = [one.model.metadata.get("general.name") for one in contestants]
    names = {str(value.value) for value in values if value is not None}
    return names.pop() if len(names) == 1 else "GGUF files"


def _profiles_of(models: Sequence[str], options: dict[str, Any]) -> _Entrants:
    from toolkit.comparison.contestants import contestant_from_profile, contestants_from_profiles
    from toolkit.model_source import unquantized_profile

    if len(models) > 1:
        raise InputError(f"--profiles are made of one model, but {len(models)} are given")
    conversions = _conversions(models[0], options)
    source = conversions.source
    for message in source.warnings:
        warn(message)
    found = contestants_from_profiles(conversions, options["profiles"])
    # Without an importance matrix: nothing of the base is quantized.
    plain = replace(conversions, imatrix=None)
    base = contestant_from_profile(plain, unquantized_profile(source)) if options["base"] is None else None
    return _Entrants(source.name, tuple(found), base)


def _conversions(model: str, options: dict[str, Any]) -> "Conversions":
    from toolkit.comparison.contestants import Conversions
    from toolkit.convert import ConversionOptions
    from toolkit.gguf_source import source_from_gguf
    from toolkit.hf_source import source_from_checkpoint
    from toolkit.imatrix import read_imatrix

    path = resolve_source(model, local_files_only=options["local_files_only"])
    source = source_from_gguf(path) if path.suffix == ".gguf" else source_from_checkpoint(path, options["pre"])
    imatrix = read_imatrix(options["imatrix"]) if options["imatrix"] is not None else None
    keep = options["keep"]
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    return Conversions(source, path, imatrix, keep, ConversionOptions(options["threads"], options["force"]))


def _job(
    entrants: _Entrants, texts: "tuple[TextRequest, ...]", store: "ComparisonStore", options: dict[str, Any]
) -> "Job":
    from toolkit.comparison.run import Job

    first = entrants.base or entrants.contestants[0]
    longest = max(options["n_ctx"], *(text.n_ctx for text in texts))
    warn_of_long_context(longest, first.model.trained_context)
    request = plan_request(planning_options(options), explicit=True)
    rates = None if options["no_rates"] else _rate_settings(options)
    return Job(entrants.contestants, entrants.base, request, texts, rates, options["threads"], store)


def _rate_settings(options: dict[str, Any]) -> "RateSettings":
    from toolkit.token_rate import RateSettings

    return RateSettings(options["n_prompt"], options["n_generate"], options["repetitions"])


def _notes(entrants: _Entrants, options: dict[str, Any]) -> list[str]:
    """Return what has to be known of the measurement, on the terminal and in every output."""
    from toolkit.machine_load import load_warnings

    found = []
    if entrants.base is None:
        found.append(
            "no unquantized file (F32, F16 or BF16) is among them and no --base is given: perplexity only, and no verdicts"
        )
    elif not entrants.base.is_unquantized:
        found.append(f"the base {entrants.base.name} is quantized itself, so that what it lost is not seen")
    return found + ([] if options["no_rates"] else load_warnings())


def _method(job: "Job", options: dict[str, Any]) -> "Method":
    from toolkit.comparison.machine import measured_on
    from toolkit.comparison.rows import Method
    from toolkit.devices import physical_cores

    return Method(
        n_ctx=job.plan.settings.n_ctx,
        n_prompt=options["n_prompt"],
        n_generate=options["n_generate"],
        repetitions=0 if options["no_rates"] else options["repetitions"],
        threads=job.threads or physical_cores(),
        measured_on=measured_on(),
        margin_bytes=job.plan.budgets.margin_bytes if not job.plan.on_cpu else 0,
    )


def _command() -> str:
    return shlex.join(["gguf-toolkit", *sys.argv[1:]])
