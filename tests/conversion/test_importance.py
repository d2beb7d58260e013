"""What an importance matrix does not know of a mixture of experts, in the plan of its conversion."""

import struct

import numpy
from tiny_moe import N_EXPERTS, SHAPE, write_tiny_moe

from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.importance.matrix import read_imatrix
from toolkit.quant_profile import load_profile
from toolkit.sources.gguf_source import source_from_gguf

NAME = "blk.0.ffn_up_exps.weight"


def test_an_expert_of_zeros_in_the_older_format_is_planned_with_weights_of_one(tmp_path):
    values = numpy.arange(1, N_EXPERTS * SHAPE.n_embd + 1, dtype="<f4").reshape(N_EXPERTS, -1)
    values[3] = 0
    header = struct.pack(f"<ii{len(NAME)}sii", 1, len(NAME), NAME.encode(), 1, values.size)
    (tmp_path / "old.dat").write_bytes(header + values.tobytes())
    source = source_from_gguf(write_tiny_moe(tmp_path / "moe.gguf"))
    plan = plan_conversion(source, load_profile("q4_0"), read_imatrix(tmp_path / "old.dat"))
    planned = next(tensor.importance for tensor in plan.tensors if tensor.name == NAME).reshape(N_EXPERTS, -1)
    values[3] = 1
    assert numpy.array_equal(planned, values)
