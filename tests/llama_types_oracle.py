"""Ask libllama itself which types llama-quantize would choose.

Two ways. `mock_types` goes through functions that libllama exports under C++ names: quick, but without importance matrix
and with only some model sizes. `dry_run_types` lets `llama_model_quantize` read a header whose data is a hole in the file,
and reads its log: all of it, slower.
"""

import ctypes
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gguf
import numpy

from toolkit.gguf.ggml_types import BF16, TYPES_BY_ID, TensorType, tensor_type
from toolkit.llama.log import llama_log
from toolkit.llama.native import ggml_library, llama_cpp
from toolkit.quant_profile import ModelTraits
from toolkit.quant_profile.roles import walking_order

Tensors = Sequence[tuple[str, tuple[int, ...]]]

_SYMBOLS = {
    "model": "_Z31llama_quant_model_from_metadataPK22llama_quant_model_desc",
    "init": "_Z16llama_quant_initPK11llama_modelPK27llama_model_quantize_params",
    "allows": "_Z38llama_quant_tensor_allows_quantizationPK19quantize_state_implPK11ggml_tensor",
    "compute": "_Z25llama_quant_compute_typesP19quantize_state_impl11llama_ftypePP11ggml_tensorP9ggml_typem",
    "free": "_Z16llama_quant_freeP19quantize_state_impl",
}


class _Description(ctypes.Structure):
    _fields_ = [
        ("architecture", ctypes.c_char_p),
        *[
            (name, ctypes.c_uint32)
            for name in (
                "n_embd",
                "n_ff",
                "n_layer",
                "n_head",
                "n_head_kv",
                "n_expert",
                "n_embd_head_k",
                "n_embd_head_v",
            )
        ],
    ]


class _InitParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def mock_types(
    file_types: Sequence[int], tensors: Tensors, traits: ModelTraits, overrides: Sequence[tuple[str, TensorType]] = ()
) -> dict[int, dict[str, TensorType]]:
    """Return for each file type the types that libllama gives to the tensors that it quantizes."""
    model, params, keep = _mock_model(traits), *_params(overrides)
    state = _function("init", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p])(model, ctypes.byref(params))
    context, ordered = _ggml_tensors(tensors)
    try:
        allows = _function("allows", ctypes.c_bool, [ctypes.c_void_p, ctypes.c_void_p])
        quantized = [(name, pointer) for name, pointer in ordered if allows(state, pointer)]
        with captured_log():
            return {file_type: _compute(state, file_type, quantized) for file_type in file_types}
    finally:
        _function("free", None, [ctypes.c_void_p])(state)
        _base("ggml_free", None, ctypes.c_void_p)(context)
        llama_cpp().llama_model_free(ctypes.cast(model, llama_cpp().llama_model_p_ctypes))
        del keep


def dry_run_types(
    path: Path, file_type: int, overrides: Sequence[tuple[str, TensorType]] = (), imatrix: Sequence[str] = ()
) -> dict[str, TensorType]:
    """Return the types that `llama_model_quantize` would give to the tensors of a GGUF file.

    `imatrix` names a tensor for which there is importance data; none that is big is needed, because a dry run only looks
    whether there is any.
    """
    library = llama_cpp()
    params, keep = _params(overrides, imatrix)
    params.ftype, params.dry_run, params.nthread = file_type, True, 1
    with captured_log() as log:
        status = library.llama_model_quantize(str(path).encode(), b"unused.gguf", ctypes.byref(params))
    text = "".join(log)
    assert status == 0, text[-2000:]
    del keep
    found = re.findall(r"\[ *\d+/ *\d+\] (\S+) +- \[.*?\], type = +(\S+), (?:[^\[]*?MiB \((\w+)\))?", text)
    return {name: tensor_type(new or old) for name, old, new in found}


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """Collect what llama.cpp logs meanwhile; afterwards the toolkit receives it again."""
    log: list[str] = []

    def receive(level: int, text: bytes, data: object) -> None:
        log.append(text.decode())

    callback = llama_cpp().llama_log_callback(receive)
    llama_cpp().llama_log_set(callback, None)
    try:
        yield log
    finally:
        llama_log().divert()


def write_header(path: Path, tensors: Tensors, traits: ModelTraits) -> None:
    """Write a GGUF file with BF16 tensors whose data is a hole."""
    arch = traits.architecture
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(traits.n_layer)
    writer.add_context_length(256)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(256)
    writer.add_head_count(traits.n_head)
    writer.add_head_count_kv(traits.n_head_kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-5)
    writer.add_key_length(32)
    writer.add_value_length(32)
    writer.add_rope_dimension_count(32)
    if traits.n_expert:
        writer.add_expert_count(traits.n_expert)
        writer.add_expert_used_count(1)
        writer.add_expert_feed_forward_length(256)
    for name, shape in tensors:
        bytes_ = BF16.tensor_bytes(shape)
        writer.add_tensor_info(name, shape, numpy.dtype("uint16"), bytes_, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    size = path.stat().st_size
    data = sum(-(-BF16.tensor_bytes(shape) // 32) * 32 for _, shape in tensors)
    with path.open("r+b") as file:
        file.truncate(-(-size // 32) * 32 + data)


def _mock_model(traits: ModelTraits) -> int:
    numbers = (256, 1024, traits.n_layer, traits.n_head, traits.n_head_kv, traits.n_expert, 64, 64)
    description = _Description(traits.architecture.encode(), *numbers)
    pointer: int = _function("model", ctypes.c_void_p, [ctypes.c_void_p])(ctypes.byref(description))
    return pointer


def _params(overrides: Sequence[tuple[str, TensorType]], imatrix: Sequence[str] = ()):  # type: ignore[no-untyped-def]
    library = llama_cpp()
    params = library.llama_model_quantize_default_params()
    patterns = (library.llama_model_tensor_override * (len(overrides) + 1))()
    for slot, (pattern, type_) in zip(patterns, overrides, strict=False):
        slot.pattern, slot.type = pattern.encode(), type_.ggml_id
    values = (ctypes.c_float * 1)(1.0)
    entries = (library.llama_model_imatrix_data * (len(imatrix) + 1))()
    for entry, name in zip(entries, imatrix, strict=False):
        entry.name, entry.size = name.encode(), 1
        entry.data = ctypes.cast(values, ctypes.POINTER(ctypes.c_float))
    if overrides:
        params.tt_overrides = ctypes.cast(patterns, ctypes.POINTER(library.llama_model_tensor_override))
    if imatrix:
        params.imatrix = ctypes.cast(entries, ctypes.POINTER(library.llama_model_imatrix_data))
    return params, (patterns, entries, values)


def _ggml_tensors(tensors: Tensors) -> tuple[int, list[tuple[str, int]]]:
    overhead = _base("ggml_tensor_overhead", ctypes.c_size_t)()
    context = _base("ggml_init", ctypes.c_void_p, _InitParams)(_InitParams(overhead * len(tensors), None, True))
    new = _base("ggml_new_tensor", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    name_it = _base("ggml_set_name", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
    made = []
    for name, shape in sorted(tensors, key=lambda tensor: walking_order(tensor[0])):
        lengths = (ctypes.c_int64 * len(shape))(*reversed(shape))
        tensor = new(context, 0, len(shape), lengths)
        name_it(tensor, name.encode())
        made.append((name, tensor))
    return context, made


def _compute(state: int, file_type: int, tensors: Sequence[tuple[str, int]]) -> dict[str, TensorType]:
    pointers = (ctypes.c_void_p * len(tensors))(*(pointer for _, pointer in tensors))
    types = (ctypes.c_int * len(tensors))()
    pointer = ctypes.c_void_p
    compute = _function("compute", None, [pointer, ctypes.c_int, pointer, pointer, ctypes.c_size_t])
    compute(state, file_type, pointers, types, len(tensors))
    return {name: TYPES_BY_ID[type_] for (name, _), type_ in zip(tensors, types, strict=True)}


def _function(name: str, result: object, arguments: Sequence[object]):  # type: ignore[no-untyped-def]
    function = llama_cpp()._lib[_SYMBOLS[name]]
    function.restype, function.argtypes = result, list(arguments)
    return function


def _base(name: str, result: object, *arguments: object):  # type: ignore[no-untyped-def]
    function = ggml_library("ggml-base")[name]
    function.restype, function.argtypes = result, list(arguments)
    return function
