"""Decoded images in the cache: the same bits with and without it, each decoded once, whatever happens to the files."""

import errno
import os
import pathlib
import threading

import numpy as np
import pytest

from cnnlab import files
from cnnlab.data import cache, stored_images
from cnnlab.data.source import LazyImages, subset
from cnnlab.data.stored_images import ImageStore, open_store, stored
from cnnlab.errors import DataError
from tests.test_data_cache import damages_of

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), np.uint8)
ORDER = np.random.default_rng(1).permutation(40)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def lazy(decoded: list[int], **more) -> LazyImages:
    """The pixels as images that are decoded on request; `decoded` gets the positions."""

    def read(positions: list[int]) -> list[np.ndarray]:
        decoded.extend(positions)
        return [PIXELS[position] for position in positions]

    return LazyImages(read, len(PIXELS), PIXELS.shape[1:], **more)


def again(decoded: list[int], **more) -> LazyImages:
    """The same images in the cache, as a new process opens them."""
    stored_images.OPENED.clear()
    return stored(lazy(decoded, **more), "key", "noise")


@pytest.mark.parametrize("threads", [1, 3])
def test_images_are_decoded_once_and_have_the_same_bits_with_and_without_the_cache(threads: int):
    decoded: list[int] = []
    first = again(decoded, threads=threads)
    for chosen in (ORDER[:10], ORDER[5:25], ORDER[[3, 3, 3]]):
        np.testing.assert_array_equal(first[chosen], PIXELS[chosen])
    assert sorted(decoded) == sorted(ORDER[:25])
    part = subset(again(decoded), ORDER[:25])
    np.testing.assert_array_equal(part[np.arange(25)], PIXELS[ORDER[:25]])
    assert len(decoded) == 25, "a later run decodes none of them"
    whole = again(decoded)
    np.testing.assert_array_equal(whole[np.arange(40)], PIXELS)
    np.testing.assert_array_equal(whole[np.arange(40)], PIXELS)
    assert sorted(decoded) == list(range(40)) and len(whole[np.arange(0)]) == 0
    (entry,) = cache.entries()
    assert entry.about == "noise" and np.array_equal(np.load(entry.folder / "images.npy"), PIXELS)


def test_a_damaged_image_is_decoded_again_and_an_entry_of_another_shape_is_replaced(capfd):
    again([])[np.arange(40)]
    (entry,) = cache.entries()
    content = bytearray((entry.folder / "images.npy").read_bytes())
    content[-1] ^= 1
    (entry.folder / "images.npy").write_bytes(bytes(content))
    decoded: list[int] = []
    np.testing.assert_array_equal(again(decoded)[np.arange(40)], PIXELS)
    assert decoded == [39]
    np.testing.assert_array_equal(again(decoded)[np.arange(40)], PIXELS)
    assert decoded == [39]
    (entry.folder / "images.npy").write_bytes(bytes(content[:-200]))
    np.testing.assert_array_equal(again(decoded)[np.arange(40)], PIXELS)
    assert len(decoded) == 41 and "is damaged: making it again" in capfd.readouterr().err


def test_damage_to_any_file_of_an_entry_of_images_changes_no_pixel():
    again([])[np.arange(40)]
    (entry,) = cache.entries()
    whole = {file: file.read_bytes() for file in entry.folder.iterdir()}
    assert {file.name for file in whole} == {"images.npy", "digests.npy", "starts.json", "about.json"}
    for file, content in whole.items():
        for damage in damages_of(content, range(0, len(content), max(7, len(content) // 9))):
            entry.folder.mkdir(exist_ok=True)
            for other, kept in whole.items():
                other.write_bytes(kept)
            file.unlink() if damage is None else file.write_bytes(damage)
            np.testing.assert_array_equal(again([])[np.arange(40)], PIXELS)


def test_an_image_without_its_digest_is_not_there():
    store = open_store("half", PIXELS.shape, PIXELS.dtype, "")
    assert store is not None
    files.write_at(store._images, PIXELS[0].reshape(-1).data, store._images_start)  # and then the process is killed
    out = np.empty_like(PIXELS[:2])
    assert not store.read([0, 1], out).any()


def test_a_full_disk_ends_in_a_line_and_the_images_are_decoded(monkeypatch, capfd):
    write, written = files.write_at, []

    def full(descriptor: int, content: memoryview, offset: int) -> None:
        written.append(offset)
        if len(written) > 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(descriptor, content, offset)

    monkeypatch.setattr(files, "write_at", full)
    decoded: list[int] = []
    images = again(decoded)
    for _ in range(2):
        np.testing.assert_array_equal(images[np.arange(40)], PIXELS)
    assert len(decoded) == 40 + 35 and len(written) == 11
    said = capfd.readouterr().err
    assert said.count("no space is left on the disk); other images are decoded whenever they are read") == 1


def test_images_that_the_limit_does_not_allow_are_decoded_at_every_read(monkeypatch, capfd):
    monkeypatch.setenv(cache.LIMIT_VARIABLE, str(2**10 / 2**30))
    decoded: list[int] = []
    images = again(decoded)
    for _ in range(2):
        np.testing.assert_array_equal(images[ORDER], PIXELS[ORDER])
    assert len(decoded) == 80 and cache.entries() == []
    assert capfd.readouterr().err.count("not cached: noise (it takes 3.5 KiB and at most 1.0 KiB are allowed") == 1


def test_several_processes_that_fill_one_entry_agree():
    decoded: list[int] = []
    readers = []
    for _ in range(4):  # each with an open entry of its own, as in a process of its own
        readers.append(again(decoded))
        readers[-1][np.arange(0)]
    wrong = []

    def read(reader: LazyImages, seed: int) -> None:
        order = np.random.default_rng(seed).permutation(40)
        for start in range(0, 40, 4):
            wrong.append(not np.array_equal(reader[order[start : start + 4]], PIXELS[order[start : start + 4]]))

    threads = [threading.Thread(target=read, args=(reader, seed)) for seed, reader in enumerate(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 40 and not any(wrong)
    before = len(decoded)
    np.testing.assert_array_equal(readers[0][np.arange(40)], PIXELS)
    assert len(decoded) == before, "what another process wrote is seen"
    cache.clear()
    np.testing.assert_array_equal(readers[0][np.arange(40)], PIXELS)
    assert len(decoded) == before, "what was opened can be read after the entry is deleted"


def test_files_are_compared_before_their_images_come_from_the_cache():
    changed: set[int] = set()

    def check(positions: list[int]) -> None:
        if found := changed & set(positions):
            raise DataError(f"{found} changed")

    images = again([], check=check)
    images[np.arange(40)]
    changed.add(7)
    images[np.array([6, 8])]
    with pytest.raises(DataError, match="7"):
        subset(images, np.array([7, 8, 9]))[np.array([0])]


def test_an_entry_is_one_object_in_a_process():
    one, two = (open_store("same", PIXELS.shape, PIXELS.dtype, "") for _ in range(2))
    assert isinstance(one, ImageStore) and one is two
