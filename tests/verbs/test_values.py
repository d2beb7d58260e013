"""Values that no request can mean: one error each, before anything is read."""

import pytest

import toolkit
from toolkit.errors import InputError


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("plan", {"n_parallel": 0}, "n_parallel 0 is too small; give 1 or more"),
        ("plan", {"ubatch": 0}, "ubatch 0 is too small"),
        ("plan", {"gpu_bandwidth": -1.0}, r"gpu_bandwidth -1\.0 is too small"),
        ("plan", {"prefer": "size"}, "prefer 'size' is not one of balance, speed, quality"),
        ("plan", {"flash_attention": "maybe"}, "flash_attention 'maybe' is not one of auto, on, off"),
        ("plan", {"device": "tpu"}, "device 'tpu' is not one of"),
        ("perplexity", {"n_ctx_seq": 0}, "n_ctx_seq 0 is too small"),
        ("perplexity", {"chunks": -1}, "chunks -1 is too small"),
        ("perplexity", {"threads": 0}, "threads 0 is too small"),
        ("perplexity", {"n_gpu_layers": -3}, "n_gpu_layers -3 is too small; give 0 or more"),
        ("bench", {"n_prompt": [8, -1]}, "n_prompt -1 is too small"),
        ("bench", {"threads": [0]}, "threads 0 is too small"),
        ("quantize", {"split_max_tensors": 0}, "split_max_tensors 0 is too small"),
        ("quantize", {"rounding": "best"}, "rounding 'best' is not one of ggml, calibrated"),
        ("kld", {"max_kld": -1.0}, r"max_kld -1\.0 is too small"),
        ("kld", {"max_kld": float("nan")}, "max_kld is not a number"),
        ("kld", {"max_ppl_increase": float("nan")}, "max_ppl_increase is not a number"),
    ],
)
def test_a_value_that_cannot_be_meant_is_an_input_error(name, fields, message):
    with pytest.raises(InputError, match=message):
        getattr(toolkit, name)("absent.gguf", **fields)


def test_a_size_is_not_negative(tiny):
    for name in ("vram", "ram", "margin"):
        with pytest.raises(InputError, match="a size of -5 bytes is less than nothing"):
            toolkit.plan(tiny, **{"vram": 0, "ram": "8GiB"} | {name: -5})
