"""Scenes of digits: their columns agree with each other, and each scene depends on its number and the seed alone."""

import dataclasses
import sys

import numpy as np
import pytest

from cnnlab.data.arrays import digits
from cnnlab.data.images import images
from cnnlab.data.scenes import scenes
from cnnlab.errors import UsageError

DRAWN = scenes(examples=24, instances=True)


@pytest.mark.parametrize("split", ["train", "test"])
def test_masks_boxes_and_instances_of_a_scene_agree(split):
    """A pixel has the class of the one object that it shows, and a box lies around the visible pixels of its object."""
    columns = DRAWN.splits[split].columns
    objects, instances = columns["objects"], columns["instances"]
    assert instances.sum(axis=1).max() == 1  # objects do not share a pixel
    classes = np.where(objects["valid"], objects["label"] + 1, 0).astype(np.uint8)  # [N, M]
    assert np.array_equal((instances * classes[..., None, None]).sum(axis=1), columns["segmentation"])
    assert np.array_equal(instances.any(axis=(2, 3)), objects["valid"])
    for number, place in np.argwhere(objects["valid"]):
        rows, seen = np.nonzero(instances[number, place])
        assert objects["corners"][number, place].tolist() == [seen.min(), rows.min(), seen.max() + 1, rows.max() + 1]
    counts = objects["valid"].sum(axis=1)
    assert counts.min() >= 1 and counts.max() <= 5 and np.all(objects["valid"] == (np.arange(5) < counts[:, None]))


def test_scenes_have_every_class_and_most_of_each_object_is_seen():
    found = scenes(examples=80, size=32).splits["train"].columns
    assert set(np.unique(found["segmentation"])) == set(range(11))
    alone = scenes(examples=40, most_objects=1, colour=False, clutter=0)
    pixels, masks = (alone.splits["train"].columns[name] for name in ("image", "segmentation"))
    assert pixels.shape == (40, 64, 64, 1)
    assert np.all([image[mask > 0].mean() > image[mask == 0].mean() + 40 for image, mask in zip(pixels, masks, strict=True)])


def test_an_object_that_would_hide_others_is_left_out_and_sides_are_shares():
    """Where all may be hidden every object finds a place; where none may, some of a crowd find none."""
    hidden, whole = (scenes(examples=20, size=32, visible=share).splits["train"].columns["objects"] for share in (0.0, 1.0))
    counts, fewer = hidden["valid"].sum(axis=1), whole["valid"].sum(axis=1)
    assert np.all(fewer <= counts) and fewer.sum() < counts.sum()
    sides = scenes(examples=20, most_objects=1, sides=(0.5, 0.5)).splits["train"].columns["objects"]["corners"]
    assert (sides[..., 3] - sides[..., 1]).max() <= 32 + 1
    for wrong in ((0.5,), (0.5, 0.3), (0.3, 1.5)):
        with pytest.raises(UsageError, match="0 < SMALLEST <= LARGEST <= 1"):
            scenes(examples=1, sides=wrong)


def test_a_scene_depends_on_its_number_and_the_seed_alone():
    more, other = scenes(examples=30), scenes(examples=24, data_seed=1)
    first = DRAWN.splits["train"].columns
    for name in ("image", "segmentation"):
        assert np.array_equal(more.splits["train"].columns[name][:24], first[name])
        assert not np.array_equal(other.splits["train"].columns[name], first[name])
    assert scenes(examples=24, instances=True).fingerprint == DRAWN.fingerprint != other.fingerprint


def test_training_and_test_scenes_are_made_of_different_digits(monkeypatch):
    """Scenes show the digits of their own split alone, and the splits of the digits have none in common."""
    train, test = ({image.tobytes() for image in digits().splits[split].images} for split in ("train", "test"))
    assert not train & test
    parts = {
        split: part.at(np.flatnonzero(part.labels == number)) for number, (split, part) in enumerate(digits().splits.items())
    }
    monkeypatch.setattr(sys.modules["cnnlab.data.scenes"], "digits", lambda: dataclasses.replace(digits(), splits=parts))
    for number, (split, part) in enumerate(scenes(examples=8).splits.items()):
        assert set(np.unique(part.columns["segmentation"])) == {0, 1 + number}, split


def test_scenes_become_batches():
    data = images(dataset=lambda: DRAWN, batch_size=4)
    feed = next(iter(data.train(0, 0)))
    batch = data.preparation(data.inputs, data.resident["train"], feed, None)
    assert batch["image"].shape == (4, 64, 64, 3) and batch["segmentation"].shape == (4, 64, 64)
    assert data.inputs.class_names == ("background", *map(str, range(10)))
