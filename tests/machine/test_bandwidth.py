from toolkit.machine.bandwidth import measure_ram_bandwidth, ram_bandwidth


def test_the_best_round_counts():
    ticks = iter([0.0, 4.0, 10.0, 11.0, 20.0, 22.0])
    assert measure_ram_bandwidth(2, 1 << 20, lambda: next(ticks)) == 2 << 20


def test_a_measurement_is_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(tmp_path))
    monkeypatch.setattr("toolkit.machine.bandwidth.measure_ram_bandwidth", lambda: 1e10)
    assert ram_bandwidth() == 1e10
    monkeypatch.setattr("toolkit.machine.bandwidth.measure_ram_bandwidth", None)
    assert ram_bandwidth() == 1e10
