"""Tokens per second from the bytes that a token moves."""

import pytest

from toolkit.planning.token_speed import Bandwidths, MovedBytes, tokens_per_second


def test_three_quarters_of_the_bandwidth_move_the_bytes_and_every_layer_takes_5_microseconds():
    moved, bandwidths = MovedBytes((3e9,), 0.0), Bandwidths((400e9,), 40e9)
    assert tokens_per_second(moved, bandwidths, 0) == pytest.approx(100)
    assert tokens_per_second(moved, bandwidths, 100) == pytest.approx(1 / (0.01 + 100 * 5e-6))
    assert tokens_per_second(MovedBytes((3e9, 3e9), 0.3e9), Bandwidths((400e9, 400e9), 40e9), 0) == pytest.approx(
        1 / 0.03
    )
