"""Negative controls: what they leave as it was, what they destroy, and that a network then learns nothing."""

import dataclasses
import pathlib

import numpy as np
import pytest

from cnnlab import knobs
from cnnlab.data import digits, stripes, xor
from cnnlab.data.negative_controls import permute_pixels, shuffle_labels, shuffle_pixels
from cnnlab.data.pipeline import build
from cnnlab.data.source import LazyImages, Source, labelled
from cnnlab.errors import UsageError
from cnnlab.files import read_json
from cnnlab.recipes.classification import classification
from cnnlab.runs import run
from cnnlab.runs.folder import RunSpec


def lazily(source: Source) -> Source:
    """The source as if its images were decoded when they are asked for."""

    def lazy(images: np.ndarray) -> LazyImages:
        return LazyImages(lambda positions: [images[position] for position in positions], len(images), images.shape[1:])

    splits = {name: part.having(image=lazy(part.images)) for name, part in source.splits.items()}
    return dataclasses.replace(source, splits=splits)


def pixels(images: np.ndarray) -> np.ndarray:
    """[N, H, W, C] -> every image's pixels in a canonical order."""
    flat = images.reshape(len(images), -1, images.shape[-1])
    return np.stack([image[np.lexsort(image.T)] for image in flat])


def test_shuffled_labels_are_those_of_train_in_another_order():
    plain, data = build(digits(), batch_size=64), build(shuffle_labels(digits(), validation=0.1), batch_size=64)
    assert data.sizes == plain.sizes and data.fingerprint != plain.fingerprint
    before, after = plain.resident, data.resident
    for split in ("train", "validation", "test"):
        assert np.array_equal(before[split]["image"], after[split]["image"])
    for split in ("validation", "test"):
        assert np.array_equal(before[split]["label"], after[split]["label"])
    first, second = before["train"]["label"], after["train"]["label"]
    assert np.array_equal(np.bincount(first), np.bincount(second))
    assert abs(np.mean(first == second) - 0.1) < 0.03  # as many as chance leaves right


def test_shuffled_labels_keep_a_validation_split_of_the_publisher():
    source = stripes(examples=40, size=8)
    own = dataclasses.replace(source, splits={**source.splits, "validation": source.splits["test"]})
    shuffled = shuffle_labels(own, validation=0.5)
    assert shuffled.splits["validation"] is own.splits["validation"] and len(shuffled.splits["train"].labels) == 40
    assert "validation" not in shuffle_labels(xor(), validation=0.1).splits


@pytest.mark.parametrize("drawn_by", [{}, {"split_seed": "run"}])
def test_labels_are_not_shuffled_where_there_are_none(drawn_by: dict[str, str]):
    given = {"model": "lstm", "data.dataset": "adding", "loss": "squared", "control": "shuffle_labels", **drawn_by}
    with pytest.raises(UsageError, match=r"--control=shuffle_labels needs the class of every image, and adding has no column"):
        knobs.resolve(classification, given).call()


def test_shuffled_pixels_leave_every_image_its_pixels_and_no_order():
    colours = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), np.uint8)
    colours[1] = colours[0]
    labels = np.arange(20, dtype=np.int32) % 2
    source = labelled("noise", {"train": (colours, labels), "test": (colours, labels)}, ("a", "b"), fingerprint="f")
    shuffled = shuffle_pixels(source)
    train, test = (shuffled.splits[split].images for split in ("train", "test"))
    for images in (train, test):
        assert np.array_equal(pixels(images), pixels(colours)) and images.dtype == np.uint8
        assert np.mean(images == colours) < 0.2
    assert not np.array_equal(train[0], train[1])  # equal images become different ones
    assert not np.array_equal(train, test)
    assert np.array_equal(shuffled.splits["train"].labels, labels)


def test_permuted_pixels_are_in_the_same_order_in_every_image_of_every_split():
    places = np.arange(30, dtype=np.uint8).reshape(1, 6, 5, 1)  # [30] -> [1, 6, 5, 1]: each pixel's place
    images, labels = np.concatenate([places, places + 100]), np.array([0, 1], np.int32)
    source = labelled("places", {"train": (images, labels), "test": (places, labels[:1])}, ("a", "b"), fingerprint="f")
    permuted = permute_pixels(source)
    train, test = (permuted.splits[split].images for split in ("train", "test"))
    assert np.array_equal(train[1], train[0] + 100) and np.array_equal(test[0], train[0])
    assert np.array_equal(np.sort(train[0].ravel()), places.ravel()) and np.mean(train[0] == places[0]) < 0.2


@pytest.mark.parametrize("control", [shuffle_pixels, permute_pixels, lambda source: shuffle_labels(source, validation=0.25)])
def test_controls_are_the_same_every_time_change_the_fingerprint_and_stay_lazy(control):
    source = stripes(examples=40, size=8)
    once, again, lazy = control(source), control(source), control(lazily(source))
    assert once.fingerprint == again.fingerprint == lazy.fingerprint != source.fingerprint
    for split, part in once.splits.items():
        chosen = np.array([3, 0, 2], np.int32)
        streamed = lazy.splits[split]
        assert isinstance(streamed.images, LazyImages)
        assert np.array_equal(part.images[chosen], streamed.images[chosen]) and np.array_equal(part.labels, streamed.labels)
        assert np.array_equal(part.images, again.splits[split].images)


def test_the_controls_have_fingerprints_of_their_own():
    source = digits()
    shuffled = [
        shuffle_pixels(source),
        permute_pixels(source),
        shuffle_labels(source, validation=0.1),
        shuffle_labels(source, validation=0.2),
        *(shuffle_labels(source, validation=0.2, split_seed=seed) for seed in (1, 2)),
    ]
    assert len({source.fingerprint, *(control.fingerprint for control in shuffled)}) == 7


def test_a_streamed_split_is_controlled_too():
    pytest.importorskip("grain")
    source = shuffle_pixels(lazily(stripes(examples=40, size=8)))
    streamed, resident = build(source, batch_size=8, resident_mib=0), build(source, batch_size=8)
    feed, index = next(streamed.train(0, 0)), next(resident.train(0, 0))["index"]
    assert np.array_equal(feed["image"], resident.resident["train"]["image"][index])


def trained(folder: pathlib.Path, **values: str) -> dict:
    """result.json of a small network on the digits."""
    given = {"model": "mlp", "model.widths": "32", "duration": "8 epochs", "batch_size": "32", **values}
    resolved = knobs.resolve(classification, given)
    plan = RunSpec("control", resolved.values, "f32", source="", devices=1, quiet=True)
    assert run.train_seeds(resolved, plan, {0: folder}, overwrite=False) == 0
    return read_json(folder / "result.json")


CHANCE = 0.1
"""Ten classes."""


@pytest.mark.slow
def test_a_network_learns_the_digits_and_nothing_from_shuffled_labels_or_pixels(tmp_path):
    assert trained(tmp_path / "plain")["metrics"]["test/accuracy"] > 0.9
    assert trained(tmp_path / "pixels", control="shuffle_pixels")["metrics"]["test/accuracy"] < 2 * CHANCE
    shuffled = trained(tmp_path / "labels", control="shuffle_labels")
    assert shuffled["metrics"]["test/accuracy"] < 2 * CHANCE and shuffled["metrics"]["validation/accuracy"] < 2.5 * CHANCE
    assert shuffled["steps"] > 0


def test_random_parameters_are_evaluated_as_they_are_initialised(tmp_path):
    result = trained(tmp_path / "random", control="random_parameters")
    assert result["steps"] == 0 and result["metrics"]["test/accuracy"] < 2.5 * CHANCE
    assert set(result["metrics"]) >= {"test/accuracy", "test/loss", "validation/accuracy"}
    assert read_json(tmp_path / "random" / "status.json")["state"] == "DONE"


def test_random_parameters_refuse_weights_from_elsewhere():
    resolved = knobs.resolve(classification, {"control": "random_parameters", "init_from": "weights.npz"})
    with pytest.raises(UsageError, match=r"--init_from gives it other weights\.\nLeave one of them out"):
        resolved.call()
