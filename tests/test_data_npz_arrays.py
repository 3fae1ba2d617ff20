"""Large arrays of a .npz file stay on the disk: the same data set, from a process that does not grow."""

import os
import pathlib

import numpy as np
import pytest

from cnnlab.data import cache, npz, npz_arrays
from cnnlab.data.source import LazyImages
from cnnlab.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def save(path: pathlib.Path, images: np.ndarray, test: bool = True) -> str:
    arrays = {"train_images": images, "train_labels": np.arange(len(images)) % 4}
    np.savez(path, **arrays, **({"test_images": images[:8], "test_labels": np.arange(8) % 4} if test else {}))
    return str(path)


def images_of(dtype: type, *shape: int) -> np.ndarray:
    values = np.random.default_rng(0).random(shape)
    return (values * 255).astype(np.uint8) if dtype is np.uint8 else values.astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [(np.uint8, (20, 6, 5)), (np.float64, (20, 6, 5, 3)), (np.float32, (20, 3, 6, 5)), (np.uint8, (20, 3, 6, 5))],
)
@pytest.mark.parametrize("test", [True, False])
def test_arrays_on_the_disk_are_the_same_data_set(tmp_path, monkeypatch, dtype, shape, test):
    path = save(tmp_path / "mine.npz", images_of(dtype, *shape), test)
    in_memory = npz(path)
    monkeypatch.setattr(npz_arrays, "LARGE", 300)
    monkeypatch.setattr(npz_arrays, "AT_ONCE", 700)
    for is_known in (False, True):
        if is_known:  # then all comes from the cache
            monkeypatch.setattr(npz_arrays, "digest", lambda parts: pytest.fail("the examples are read again"))
            monkeypatch.setattr(npz_arrays, "_check_whole", lambda array: pytest.fail("the array is read again"))
        source = npz(path)
        assert source.fingerprint == in_memory.fingerprint and source.remarks == in_memory.remarks
        train = source.splits["train"].images
        assert isinstance(train, LazyImages) and train.is_array and train.threads == 1
        for split, part in source.splits.items():
            expected = in_memory.splits[split]
            order = np.arange(len(part.labels))[::-1]
            found = part.images[order]
            assert found.dtype == expected.images.dtype and np.array_equal(found, expected.images[order])
            assert np.array_equal(part.labels, expected.labels)
        assert len(cache.entries()) == 2 + test, "the range of each array, and the digest"


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (np.full((20, 6, 5), 300.0), "values from 300 to 300"),
        (np.full((20, 6, 5), np.nan), "values from nan to nan"),
        (np.zeros((20, 6, 5), np.int64), r"type int64(.|\n)*uint8"),
        (np.zeros((20, 60), np.uint8), r"shape \(20, 60\)"),
    ],
)
def test_bad_content_on_the_disk_is_named(tmp_path, monkeypatch, images, text):
    monkeypatch.setattr(npz_arrays, "LARGE", 300)
    with pytest.raises(DataError, match=text):
        npz(save(tmp_path / "mine.npz", images))


def test_a_flipped_bit_and_a_file_that_changes_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(npz_arrays, "LARGE", 300)
    path = pathlib.Path(save(tmp_path / "mine.npz", images_of(np.uint8, 20, 6, 5)))
    images = npz(str(path)).splits["train"].images
    content = bytearray(path.read_bytes())
    content[400] ^= 255
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"mine\.npz: array train_images cannot be read: Bad CRC-32"):
        npz(str(path))
    for read in (lambda: images[np.arange(3)], lambda: images.check([0])):
        with pytest.raises(DataError, match=r"mine\.npz changed since it was opened"):
            read()


def test_compressed_arrays_are_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(npz_arrays, "LARGE", 300)
    np.savez_compressed(tmp_path / "mine.npz", images=images_of(np.uint8, 20, 6, 5), labels=np.arange(20) % 4)
    assert isinstance(npz(str(tmp_path / "mine.npz")).splits["train"].images, np.ndarray)


def test_no_file_stays_open_when_a_data_set_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(npz_arrays, "LARGE", 300)
    path = save(tmp_path / "mine.npz", images_of(np.uint8, 20, 6, 5), test=False)
    source = npz(path)
    opened = [entry for entry in pathlib.Path("/proc/self/fd").glob("*") if os.path.realpath(entry) == os.path.realpath(path)]
    del source
    left = [entry for entry in pathlib.Path("/proc/self/fd").glob("*") if os.path.realpath(entry) == os.path.realpath(path)]
    assert left == [] and (opened or not pathlib.Path("/proc/self/fd").is_dir())
