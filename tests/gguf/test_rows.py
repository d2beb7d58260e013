"""Every row of a tensor can be drawn, and every expert is looked at."""

from toolkit.gguf.rows import RUN_ROWS, RUNS, all_runs, sampled_runs


def rows_of(runs):
    return [row for start, stop in runs for row in range(start, stop)]


def test_all_rows_come_once_in_pieces():
    assert rows_of(all_runs((3, 5, 1 << 19))) == list(range(15))
    assert len(list(all_runs((3, 5, 1 << 19)))) == 8
    assert list(all_runs((7,))) == [(0, 1)]


def test_the_first_and_the_last_row_are_drawn_like_the_others():
    drawn = {row for number in range(200) for row in rows_of(sampled_runs(f"blk.{number}.ffn_up.weight", (20, 32)))}
    assert drawn == set(range(20))


def test_a_small_matrix_is_taken_whole_and_a_large_one_in_runs():
    assert list(sampled_runs("a", (RUNS * RUN_ROWS, 32))) == [(0, RUNS * RUN_ROWS)]
    assert [stop - start for start, stop in sampled_runs("a", (1000, 32))] == [RUN_ROWS] * RUNS
    assert list(sampled_runs("a", (1000, 32))) == list(sampled_runs("a", (1000, 32)))


def test_of_every_expert_rows_are_drawn():
    assert {row // 100 for row in rows_of(sampled_runs("a", (8, 100, 32)))} == set(range(8))
