"""What `compare` is asked to do: who takes part, on which texts, with which settings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.cli.chat_templates import given_metadata
from toolkit.cli.planning import plan_request, planning_options, warn_of_long_context
from toolkit.cli.source import is_gguf, resolve_source, told, told_importance
from toolkit.errors import InputError

if TYPE_CHECKING:
    from toolkit.comparison.contestants import Contestant, Conversions
    from toolkit.comparison.quality import TextRequest
    from toolkit.comparison.rows import Method
    from toolkit.comparison.run import Job
    from toolkit.comparison.store import ComparisonStore
    from toolkit.measures.standard import Standard
    from toolkit.measures.token_rate import RateSettings

CHAT = "chat"
LEAST_WINDOWS = 10
"""of texts in long windows, which are fewer for the same number of tokens"""


@dataclass(frozen=True)
class Prepared:
    """A job with all that is said of it."""

    name: str
    job: "Job"
    standard: "Standard"
    use: str | None
    notes: tuple[str, ...]
    """what has to be known of the measurement"""


@dataclass(frozen=True)
class _Entrants:
    """What takes part, and what it is called."""

    name: str
    contestants: "tuple[Contestant, ...]"
    base: "Contestant | None"


def prepare(models: Sequence[str], options: dict[str, Any]) -> Prepared:
    """Return what the options ask for; nothing is converted or measured yet.

    Raises InputError and what reading models, texts and thresholds raises.
    """
    from toolkit.comparison.store import ComparisonStore
    from toolkit.machine.disk_cache import cache_folder
    from toolkit.measures.standard_file import read_standard

    standard = read_standard(options["verdicts"])
    use, texts = _use_of(options["use"], standard), _texts_of(options, standard)
    entrants = _entrants_of(models, options)
    if options["as_chat"]:
        texts = _as_chat(texts, entrants.base or entrants.contestants[0], options["chat_template"])
    elif options["chat_template"]:
        raise InputError("--chat-template is of use with --as-chat only")
    store = ComparisonStore(cache_folder(), fresh=options["fresh"])
    job = _job_of(entrants, texts, store, options)
    return Prepared(entrants.name, job, standard, use, tuple(_notes_of(entrants, options)))


def _use_of(name: str | None, standard: "Standard") -> str | None:
    names = [use.name for use in standard.uses]
    if name is not None and name not in names:
        raise InputError(f"--use {name!r} is not one of {', '.join(names)}")
    return name


def _texts_of(options: dict[str, Any], standard: "Standard") -> "tuple[TextRequest, ...]":
    """Return the texts, that of the use asked for first: rows are ranked by it."""
    from toolkit.comparison.quality import TextRequest
    from toolkit.measures.evaluation_text import named_text

    window, chunks = options["window"], options["chunks"]
    requests = []
    for word in options["texts"] or ("demo",):
        kind, name = _kind_and_name(word, standard)
        n_ctx = max(window, standard.least_window(kind))
        count = chunks if n_ctx == window else max(LEAST_WINDOWS, chunks * window // n_ctx)
        requests.append(TextRequest(kind, named_text(name), n_ctx, count))
    asked = next((use.text for use in standard.uses if use.name == options["use"]), None)
    return tuple(sorted(requests, key=lambda request: request.kind != asked))


def _as_chat(texts: "tuple[TextRequest, ...]", model: "Contestant", template: Path | None) -> "tuple[TextRequest, ...]":
    """Return the texts with those of chat in a model's own format: the same for all, so that they can be compared."""
    from toolkit.measures.chat_text import as_chat

    if not any(request.kind == CHAT for request in texts):
        raise InputError(f"--as-chat is for text of chat; give --text {CHAT}=FILE")
    metadata = given_metadata(model.model.metadata, template)
    return tuple(
        replace(request, text=as_chat(request.text, metadata, model.name)) if request.kind == CHAT else request
        for request in texts
    )


def _kind_and_name(word: str, standard: "Standard") -> tuple[str, str]:
    from toolkit.measures.standard import GENERAL

    kind, equals, name = word.partition("=")
    if equals and kind in standard.kinds:
        return kind, name
    if equals and not Path(word).exists():
        raise InputError(f"--text {word}: {kind!r} is no kind of text; kinds are {', '.join(standard.kinds)}")
    return GENERAL, word


def _entrants_of(models: Sequence[str], options: dict[str, Any]) -> _Entrants:
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
    source = told(conversions.source)
    found = contestants_from_profiles(conversions, options["profiles"])
    # Nothing of the base is quantized, and it is large.
    plain = replace(conversions, imatrix=None, keep=None)
    base = contestant_from_profile(plain, unquantized_profile(source)) if options["base"] is None else None
    return _Entrants(source.name, tuple(found), base)


def _conversions(model: str, options: dict[str, Any]) -> "Conversions":
    from toolkit.comparison.contestants import Conversions
    from toolkit.conversion.convert import ConversionOptions
    from toolkit.sources.gguf_source import source_from_gguf
    from toolkit.sources.hf_source import source_from_checkpoint

    path = resolve_source(model, local_files_only=options["local_files_only"])
    if is_gguf(path):
        source = source_from_gguf(path)
    else:
        source = source_from_checkpoint(path, options["pre"], norms=options["norms"])
    imatrix = told_importance(options["imatrix"], source)
    keep = options["keep"]
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    return Conversions(source, path, imatrix, keep, ConversionOptions(options["threads"], options["force"]))


def _job_of(
    entrants: _Entrants, texts: "tuple[TextRequest, ...]", store: "ComparisonStore", options: dict[str, Any]
) -> "Job":
    from toolkit.comparison.run import Job

    first = entrants.base or entrants.contestants[0]
    longest = max(options["n_ctx"], *(text.n_ctx for text in texts))
    warn_of_long_context(longest, first.model.trained_context)
    request = plan_request(planning_options(options), explicit=True, runs=True)
    rates = None if options["no_rates"] else _rate_settings(options)
    return Job(entrants.contestants, entrants.base, request, texts, rates, options["threads"], store)


def _rate_settings(options: dict[str, Any]) -> "RateSettings":
    from toolkit.measures.token_rate import RateSettings

    return RateSettings(options["n_prompt"], options["n_generate"], options["repetitions"])


def _notes_of(entrants: _Entrants, options: dict[str, Any]) -> list[str]:
    """Return what has to be known of the measurement, on the terminal and in every output."""
    from toolkit.machine.load import load_warnings

    found = []
    if entrants.base is None:
        found.append(
            "no unquantized file (F32, F16 or BF16) is among them and no --base is given: perplexity only, and no verdicts"
        )
    elif not entrants.base.is_unquantized:
        found.append(f"the base {entrants.base.name} is quantized itself, so that what it lost is not seen")
    return found + ([] if options["no_rates"] else load_warnings())


def method_of(job: "Job", options: dict[str, Any]) -> "Method":
    """Return how a job is measured."""
    from toolkit.comparison.machine import measured_on
    from toolkit.comparison.rows import Method
    from toolkit.machine.host import physical_cores

    return Method(
        n_ctx=job.plan.settings.n_ctx,
        n_prompt=options["n_prompt"],
        n_generate=options["n_generate"],
        repetitions=0 if options["no_rates"] else options["repetitions"],
        threads=job.threads or physical_cores(),
        measured_on=measured_on(),
        margin_bytes=job.plan.budgets.margin_bytes if not job.plan.on_cpu else 0,
    )
