"""The cache of data on the disk: its limit, what goes first, its list, and what killed processes leave."""

import os
import pathlib

import numpy as np
import pytest

from cnnlab.data import cache
from cnnlab.errors import UsageError
from tests.commands import Here

KIB = 2**10


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def keep(key: str, kib: int, used: float) -> None:
    """Stores an array of so many KiB that was last used at a time."""
    cache.store(key, {"a": np.full(kib * KIB, 7, np.uint8)}, about=f"numbers of {key}")
    os.utime(cache.cache_dir() / key, (used, used))


def names() -> list[str]:
    return [entry.folder.name for entry in cache.entries()]


def test_the_entries_that_were_not_used_for_longest_go_first(monkeypatch, capfd):
    for key, used in (("b", 200), ("a", 100), ("c", 300)):
        keep(key, 100, used)
    assert cache.load("a") is not None, "reading an entry makes it the newest"
    assert names() == ["b", "c", "a"]
    monkeypatch.setenv(cache.LIMIT_VARIABLE, str(310 * KIB / 2**30))
    cache.store("d", {"a": np.zeros(100 * KIB, np.uint8)})
    assert names() == ["c", "a", "d"]
    assert "cache: 1 entry (100.2 KiB) deleted, unused for longest, to stay below 310.0 KiB" in capfd.readouterr().err


def test_what_does_not_fit_is_made_without_the_cache_and_said(monkeypatch, capfd):
    keep("a", 100, 100)
    monkeypatch.setenv(cache.LIMIT_VARIABLE, str(150 * KIB / 2**30))
    made = cache.cached("b", lambda: {"a": np.ones(200 * KIB, np.uint8)})
    assert made["a"].sum() == 200 * KIB and names() == ["a"], "nothing is deleted for what cannot be kept"
    assert "it takes 200.0 KiB and at most 150.0 KiB are allowed ($CNNLAB_CACHE_GIB)" in capfd.readouterr().err
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: cache.shutil._ntuple_diskusage(100, 100, 10))
    cache.store("c", {"a": np.ones(50 * KIB, np.uint8)})
    assert "it takes 50.0 KiB and 10 B of the disk are free" in capfd.readouterr().err
    monkeypatch.setenv(cache.LIMIT_VARIABLE, "plenty")
    with pytest.raises(UsageError, match=r"\$CNNLAB_CACHE_GIB=plenty: expected the largest size of the cache in GiB"):
        cache.limit()


def test_a_damaged_entry_is_made_again(capfd):
    made = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"a": np.arange(100)}

    for _ in range(2):
        assert np.array_equal(cache.cached("k", make)["a"], np.arange(100))
    file = cache.cache_dir() / "k" / "a.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()
    file.write_bytes(bytes(content))
    assert np.array_equal(cache.cached("k", make)["a"], np.arange(100)) and len(made) == 2
    assert "is damaged (a digest does not match)" in capfd.readouterr().err


def test_folders_of_killed_processes_are_deleted_after_a_day_and_are_no_entries(tmp_path):
    keep("a", 1, 100)
    young, old = (cache.cache_dir() / name for name in (".b-xyz", ".c-xyz"))
    for folder in (young, old):
        folder.mkdir()
    os.utime(old, (100, 100))
    assert names() == ["a"]
    keep("d", 1, 100)
    assert young.is_dir() and not old.exists()


def test_the_verb_shows_the_entries_and_clears_them(here: Here):
    keep("images-1", 2 * KIB, 100)
    code, out, err = here("cache")
    assert code == 0 and "1 entry, 2.0 MiB of at most 50.0 GiB ($CNNLAB_CACHE_GIB, in GiB)" in out, err
    assert "images-1  numbers of images-1" in out and "cache --clear" in out
    code, out, _ = here("cache", "--clear")
    assert code == 0 and "1 entry deleted, 2.0 MiB" in out and cache.entries() == []
    assert "0 entries, 0 B" in here("cache")[1] and here("cache", "--claer")[0] == 2
