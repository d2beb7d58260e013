from toolkit.planning.ranking import Candidate, Prefer, rank_key


def choice(profile: str, bits: float, size: int, layers: int = 33, kv_type: str = "f16") -> Candidate:
    return Candidate(profile, bits, size, kv_type, layers, layers == 33)


def rank(choices: list[Candidate], prefer: Prefer = Prefer.BALANCE) -> list[Candidate]:
    return sorted(choices, key=lambda one: rank_key(one, prefer))


Q8, Q6, Q4, Q3, Q2 = (
    ("Q8_0", 8.5, 85),
    ("Q6_K", 6.56, 66),
    ("Q4_K_M", 4.5, 48),
    ("Q3_K_M", 3.44, 39),
    ("Q2_K", 2.63, 33),
)


def best(choices: list[Candidate], prefer: Prefer = Prefer.BALANCE) -> tuple[str, int, str]:
    first = rank(choices, prefer)[0]
    return first.profile, first.n_gpu_layers, first.kv_type


def test_the_largest_file_that_fits_whole_is_best() -> None:
    assert best([choice(*Q4), choice(*Q8, layers=20), choice(*Q6)]) == ("Q6_K", 33, "f16")


def test_q4_k_m_with_layers_on_the_cpu_comes_before_a_file_of_fewer_bits() -> None:
    choices = [choice(*Q2), choice(*Q3), choice(*Q4, layers=25), choice(*Q8, layers=9)]
    assert [each.profile for each in rank(choices)] == ["Q4_K_M", "Q3_K_M", "Q2_K", "Q8_0"]


def test_speed_prefers_the_smaller_file_that_fits_whole() -> None:
    choices = [choice(*Q2), choice(*Q3), choice(*Q4, layers=25), choice(*Q8, layers=9)]
    assert [each.profile for each in rank(choices, Prefer.SPEED)] == ["Q3_K_M", "Q2_K", "Q4_K_M", "Q8_0"]


def test_quality_prefers_the_larger_file_that_is_split() -> None:
    choices = [choice(*Q6), choice(*Q4), choice(*Q8, layers=30)]
    assert [each.profile for each in rank(choices, Prefer.QUALITY)] == ["Q8_0", "Q6_K", "Q4_K_M"]


def test_a_smaller_kv_cache_is_taken_only_where_it_gains_layers() -> None:
    assert best([choice(*Q4, kv_type="q8_0"), choice(*Q4)]) == ("Q4_K_M", 33, "f16")
    assert best([choice(*Q4, layers=30), choice(*Q4, kv_type="q8_0")]) == ("Q4_K_M", 33, "q8_0")
    assert best([choice(*Q4, layers=20), choice(*Q4, layers=22, kv_type="q8_0")]) == ("Q4_K_M", 22, "q8_0")


def test_the_order_does_not_depend_on_the_order_of_the_question() -> None:
    choices = [choice(*each, layers=layers) for each in (Q8, Q6, Q4, Q3, Q2) for layers in (33, 20)]
    for prefer in Prefer:
        assert rank(choices, prefer) == rank(choices[::-1], prefer)
