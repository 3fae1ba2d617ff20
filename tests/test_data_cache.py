"""The cache of data on the disk: its limit, what goes first, its list, and what killed processes leave."""

import os
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from cnnlab.data import cache
from cnnlab.errors import UsageError
from cnnlab.json_cache import JsonCache
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


def damages_of(content: bytes, places: Iterable[int]) -> Iterator[bytes | None]:
    """Yields a file's content cut short, emptied and with a bit flipped at some places; None: it is deleted."""
    yield from (None, b"", content[: len(content) // 2], content[:-1])
    for place in places:
        yield content[:place] + bytes([content[place] ^ 2]) + content[place + 1 :]  # 2 is between < and >, two orders of bytes


def test_damage_to_any_file_of_an_entry_is_noticed_or_changes_nothing():
    arrays = {"a": np.arange(6).reshape(2, 3), "b": np.array(["cat", "dog"]), "c": np.array([0.5, 1.5])}
    folder, noticed = cache.cache_dir() / "k", 0
    cache.store("k", arrays, about="numbers")
    whole = {file: file.read_bytes() for file in folder.iterdir()}
    assert {file.name for file in whole} == {"a.npy", "b.npy", "c.npy", "manifest.json", "about.json"}
    for file, content in whole.items():
        for damage in damages_of(content, {*range(0, len(content), 9), max(content.find(b"<"), 0)}):
            folder.mkdir(exist_ok=True)
            for other, kept in whole.items():
                other.write_bytes(kept)
            file.unlink() if damage is None else file.write_bytes(damage)
            found = cache.load("k")
            noticed += found is None
            assert found is None or all(
                np.array_equal(found[name], array) and found[name].dtype == array.dtype for name, array in arrays.items()
            )
            assert (found is None) == (not folder.exists()), "a damaged entry is deleted"
    assert noticed > 12


def test_damage_to_a_file_of_small_results_is_noticed_or_changes_nothing():
    kept = JsonCache("digests", most=9)
    kept.put("weights.npz", "0123456789abcdef")
    kept.save()
    content = kept.path.read_bytes()
    for damage in damages_of(content, range(0, len(content), 3)):
        kept.path.unlink(missing_ok=True) if damage is None else kept.path.write_bytes(damage)
        assert JsonCache("digests", most=9).get("weights.npz") in (None, "0123456789abcdef")


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
