"""AutoRound: the tensors of GPTQ, AWQ, FP8 or MLX, as `packing_format` says; `extra_config` has settings of single modules.

The formats are those of auto_round/export of intel/auto-round 0.16: a name with "awq" packs as AWQ does, one with "gptq"
stores zero - 1, all others (plain `auto_round`, `auto_round:gptqmodel`) the zero itself. Up to 0.3 the key was `backend`.
"""

from collections.abc import Mapping
from dataclasses import replace

from toolkit.quantized_sources.awq import decode_awq
from toolkit.quantized_sources.fp8 import decode_fp8
from toolkit.quantized_sources.gptq import WordFormat, decode_words
from toolkit.quantized_sources.mlx import decode_mlx
from toolkit.quantized_sources.quantized_format import Declaration, DecodedTensors, Parts, QuantizedFormat

BITS = (2, 3, 4, 5, 6, 7, 8)
_NO_WORDS = ("llm_compressor", "nv_fp", "nvfp", "mx_fp", "mxfp", "mx_int", "mxint", "fake")
_ROTATED = ("rotation_config", "spinquant_config")


def decode_auto_round(parts: Parts) -> DecodedTensors:
    """Return the tensors of an AutoRound checkpoint.

    Raises CheckpointError for a packing format that is not read, and as the format that it names does.
    """
    settings = parts.declaration.settings
    named = settings.get("packing_format") or settings.get("backend") or "auto_round:auto_gptq"
    first = next(parts.modules(".qweight"), None)
    _refuse_others(parts.declaration, str(named), first)
    described = replace(parts, declaration=_with_module_settings(parts, first))
    if "awq" in str(named):
        return decode_awq(described)
    if "fp8" in str(named):
        return decode_fp8(described)
    if "mlx" in str(named):
        return decode_mlx(described)
    offset = int("gptq" in str(named) and "gptqmodel" not in str(named))
    return decode_words(described, WordFormat(offset, f"packing_format is {named!r}", BITS))


def _refuse_others(declaration: Declaration, named: str, first: str | None) -> None:
    rotated = next((key for key in _ROTATED if declaration.settings.get(key)), None)
    if rotated is not None:
        raise declaration.refusal(f"with {rotated}, weights that are only right behind a rotation", first)
    kind = str(declaration.settings.get("data_type") or "int")
    if any(word in named or word in kind for word in _NO_WORDS):
        raise declaration.refusal(f"with packing_format {named!r} and data_type {kind!r}", first)


def _with_module_settings(parts: Parts, first: str | None) -> Declaration:
    """Return the declaration with the settings of `extra_config`; a key that is not a module is a pattern within names."""
    declaration = parts.declaration
    extra = declaration.settings.get("extra_config") or {}
    if not isinstance(extra, Mapping) or not all(isinstance(settings, Mapping) for settings in extra.values()):
        raise declaration.refusal(f"with extra_config {str(extra)[:60]!r}", first)
    given = {
        name: {key: value for key, value in settings.items() if value is not None} for name, settings in extra.items()
    }
    stored = {name for name in given if parts.tensors.keys() & {f"{name}.qweight", f"{name}.weight"}}
    patterns = {f".*(?:{name})": settings for name, settings in given.items() if name not in stored}
    dynamic = {**(declaration.settings.get("dynamic") or {}), **patterns}
    return replace(
        declaration,
        settings={**declaration.settings, "dynamic": dynamic},
        of_modules={name: given[name] for name in stored},
    )


AUTO_ROUND = QuantizedFormat(
    names=("auto-round",),
    decode=decode_auto_round,
    older_names=("intel/auto-round", "auto_round", "autoround"),
    file="quantization_config.json",
)
