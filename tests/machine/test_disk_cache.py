from toolkit.machine.disk_cache import DiskCache


def test_what_is_kept_comes_back_under_its_key_only(tmp_path):
    cache = DiskCache.below(tmp_path, "answers")
    cache.put(["a", 1], {"x": [1.5, None]})
    assert cache.get(["a", 1]) == {"x": [1.5, None]}
    assert cache.get(["a", 2]) is None


def test_an_answer_that_was_damaged_on_disk_is_as_good_as_absent(tmp_path):
    cache = DiskCache(tmp_path)
    cache.put("key", {"bytes": 1234})
    [file] = tmp_path.iterdir()
    whole = file.read_bytes()
    for changed in (whole.replace(b"1234", b"1334"), whole[:-1], whole.split(b"\n")[1], b"", b"\xff", b"[" * 100_000):
        file.write_bytes(changed)
        assert cache.get("key") is None
    file.write_bytes(whole)
    assert cache.get("key") == {"bytes": 1234}
