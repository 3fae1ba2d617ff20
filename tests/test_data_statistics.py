"""One normalisation for images in memory and images on the disk, computed once and from few images at a time."""

import functools
import pathlib

import numpy as np
import pytest

from cnnlab.data import normalize, statistics
from cnnlab.data.source import LazyImages
from cnnlab.data.statistics import SampledRows, normalisation_of

SHAPE = (9, 8, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (50, *SHAPE), np.uint8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def lazy(images: np.ndarray, read: list[int], threads: int = 1) -> LazyImages:
    """The images, decoded on request; `read` gets the positions."""
    return LazyImages(lambda ids: read.extend(ids) or [images[i] for i in ids], len(images), SHAPE, threads)


def by_the_book(images: np.ndarray) -> normalize.Normalisation:
    """The normaliser `standard` over whole blocks at once."""
    total = squares = np.zeros(images.shape[1:])
    exact = np.uint32 if images.dtype == np.uint8 else np.float64
    for start in range(0, len(images), normalize.BLOCK):
        pixels = images[start : start + normalize.BLOCK].astype(exact)
        total, squares = total + pixels.sum(axis=0, dtype=exact), squares + np.square(pixels).sum(axis=0, dtype=exact)
    mean = total.mean(axis=(0, 1)) / len(images)
    deviation = np.sqrt(np.maximum(squares.mean(axis=(0, 1)) / len(images) - mean**2, 0))
    return mean.astype(np.float32)[None, None, None], deviation.astype(np.float32)[None, None, None]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(9000, 1, 2, 1), (4500, 5, 4, 1), (70, 40, 30, 3)])
def test_few_images_at_a_time_give_the_bits_of_whole_blocks(shape, dtype, monkeypatch):
    monkeypatch.setattr(normalize, "VALUES", 4096 if shape[1] > 1 else normalize.VALUES)
    images = np.random.default_rng(0).random(shape) * (255 if dtype == np.uint8 else 1)
    images = images.astype(dtype)
    for ours, plain in zip(normalize.standard(images), by_the_book(images), strict=True):
        assert ours.dtype == plain.dtype == np.float32 and np.array_equal(ours, plain)
    rows = SampledRows(images, shape[1:], None, "noise")
    assert np.array_equal(normalize.per_pixel(rows)[0], normalize.per_pixel(images)[0])


@pytest.mark.parametrize(
    "rule",
    [normalize.standard, normalize.per_pixel, normalize.zca, normalize.imagenet, lambda images: normalize.raw(images)],
)
@pytest.mark.parametrize("whole", [2**31, 100])
def test_images_in_memory_and_on_the_disk_are_normalised_alike(rule, whole, monkeypatch):
    monkeypatch.setattr(statistics, "WHOLE", whole)
    monkeypatch.setattr(statistics, "SAMPLE", 20)
    monkeypatch.setattr(statistics, "READ_AT_ONCE", 7 * 9 * 8 * 3)
    read: list[int] = []
    (first, said), (second, also) = (
        normalisation_of("noise", images, SHAPE, rule, "key") for images in (PIXELS, lazy(PIXELS, read, threads=2))
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)) and said == also
    wanted = 0 if rule is normalize.imagenet else 20 if whole == 100 else 50
    assert len(read) == len(set(read)) == wanted
    assert bool(said) == (wanted == 20) and all("statistics of 20 of its 50 training images" in text for text in said)
    if rule is normalize.standard:
        sample = PIXELS[np.linspace(0, 49, 20).astype(int)] if wanted == 20 else PIXELS
        assert all(np.array_equal(a, b) for a, b in zip(first, by_the_book(sample), strict=True))


def test_the_statistics_of_many_images_are_computed_once(monkeypatch):
    monkeypatch.setattr(statistics, "KEPT", 1)
    found, read = [], []
    for key, rule in (
        ("a", normalize.standard),
        ("a", normalize.standard),
        ("a", normalize.per_pixel),
        ("b", normalize.standard),
    ):
        read.append([])
        found.append(normalisation_of("noise", lazy(PIXELS, read[-1]), SHAPE, rule, key)[0])
    assert [len(positions) for positions in read] == [50, 0, 50, 50]
    assert all(np.array_equal(a, b) for a, b in zip(found[0], found[1], strict=True))
    assert type(found[1][0]) is np.ndarray, "no file stays open"


def test_names_of_normalisers_differ_with_their_settings():
    rules = (normalize.half, normalize.fixed, functools.partial(normalize.fixed, mean=(0.4,)), normalize.standard)
    assert len({statistics.normalize_name(rule) for rule in rules}) == 4


def test_rows_are_those_of_the_positions():
    rows = SampledRows(lazy(PIXELS, []), SHAPE, np.array([4, 9, 30]), "noise")
    assert rows.shape == (3, *SHAPE) and rows.dtype == np.uint8
    assert np.array_equal(rows[0:2], PIXELS[[4, 9]]) and np.array_equal(rows[2:9], PIXELS[[30]])
    assert np.array_equal(rows[0:1], PIXELS[[4]])
