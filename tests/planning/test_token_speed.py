"""Tokens per second from the bytes that a token moves."""

import pytest

from toolkit.llama.footprint import DeviceBytes, Footprint
from toolkit.memory.placement import ModelTensors, Placement
from toolkit.memory.plannable import Experts
from toolkit.planning.token_speed import Bandwidths, MovedBytes, moved_bytes, tokens_per_second

EVERY = Experts()


def test_three_quarters_of_the_bandwidth_move_the_bytes_and_every_layer_takes_5_microseconds():
    moved, bandwidths = MovedBytes((3e9,), 0.0), Bandwidths((400e9,), 40e9)
    assert tokens_per_second(moved, bandwidths, 0) == pytest.approx(100)
    assert tokens_per_second(moved, bandwidths, 100) == pytest.approx(1 / (0.01 + 100 * 5e-6))
    assert tokens_per_second(MovedBytes((3e9, 3e9), 0.3e9), Bandwidths((400e9, 400e9), 40e9), 0) == pytest.approx(
        1 / 0.03
    )


def moved(n_bytes, experts=EVERY, n_gpu_layers=3):
    cpu, gpu = DeviceBytes("CPU", True, 0, 7, 0), DeviceBytes("G", False, 0, 100, 0)
    tensors = ModelTensors(n_bytes, n_layer=2)
    return moved_bytes(tensors, experts, Placement(n_gpu_layers), Footprint((cpu, gpu), "made up", ("G",)))


def test_weights_and_caches_are_read_where_they_lie_and_one_row_of_the_embedding_is_nothing():
    n_bytes = {"token_embd.weight": 50, "blk.0.a.weight": 10, "blk.1.a.weight": 20, "output.weight": 40}
    assert moved(n_bytes) == MovedBytes((170.0,), 7.0)
    assert moved(n_bytes, n_gpu_layers=2) == MovedBytes((160.0,), 17.0)


def test_an_embedding_that_is_the_output_too_is_read_whole():
    assert moved({"token_embd.weight": 50, "blk.0.a.weight": 10}) == MovedBytes((160.0,), 7.0)


def test_of_experts_as_many_are_read_as_a_token_needs():
    n_bytes = {"token_embd.weight": 50, "blk.0.ffn_up_exps.weight": 80, "output.weight": 40}
    assert moved(n_bytes, Experts(8, 2)) == MovedBytes((160.0,), 7.0)
