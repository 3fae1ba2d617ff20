"""Columns of any kind: how they are checked, follow their images to one size, and arrive in a batch; orders of the examples."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.stats import chisquare

from cnnlab.data.kinds import Boxes, Image, InstanceMasks, Label, Mask, MultiLabel, Name, Points, Target, Tokens
from cnnlab.data.paired import paired
from cnnlab.data.pipeline import build
from cnnlab.data.placement import placement
from cnnlab.data.resize import crop, pad, resize, settings_of
from cnnlab.data.source import LazyImages, Source, Split, digest_splits, labelled
from cnnlab.data.stream_order import ORDERS
from cnnlab.data.variations.compose import Augmentation
from cnnlab.data.variations.mirror import alternating_flip
from cnnlab.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


KINDS = {
    "image": Image(),
    "label": Label(("a", "b", "c")),
    "tags": MultiLabel(("red", "round")),
    "height": Target(("metres",)),
    "segmentation": Mask(("ground", "object")),
    "boxes": Boxes(("thing",)),
    "instances": InstanceMasks(),
    "points": Points(("tip",)),
    "text": Tokens(tuple("ab")),
    "depth": Image(),
    "patient": Name(),
}


def rectangles(count: int, size: tuple[int, int] = (12, 8)) -> Split:
    """Images [count, H, W, 1] that show one bright rectangle each, with every kind of column about it."""
    draw, (height, width) = np.random.default_rng(count), size
    top, left = draw.integers(1, height - 4, count), draw.integers(1, width - 4, count)
    images = np.zeros((count, height, width, 1), np.uint8)
    for image, y, x in zip(images, top, left, strict=True):
        image[y : y + 3, x : x + 2] = 200
    mask = (images[..., 0] > 0).astype(np.uint8)
    corners = np.stack([left, top, left + 2, top + 3], axis=1).astype(np.float32)[:, None]  # [N, 4] -> [N, 1, 4]
    ones = np.ones((count, 1), bool)
    return Split(
        {
            "image": images,
            "label": (np.arange(count) % 3).astype(np.int32),
            "tags": np.eye(2, dtype=np.float32)[np.arange(count) % 2],
            "height": top.astype(np.float32)[:, None],
            "segmentation": mask,
            "boxes": {"corners": corners, "label": np.zeros((count, 1), np.int32), "valid": ones},
            "instances": mask[:, None],  # [N, H, W] -> [N, 1, H, W]
            "points": {"position": corners[..., :2], "valid": ones},
            "text": np.tile(np.array([0, 1, -1], np.int32), (count, 1)),
            "depth": images.astype(np.float32) / 255,
            "patient": np.array([f"p{number // 2}" for number in range(count)]),
        }
    )


def source(train: int = 24, test: int = 6) -> Source:
    """A source with a column of every kind."""
    splits = {"train": rectangles(train), "test": rectangles(test)}
    return Source("rectangles", splits, KINDS, digest_splits("rectangles", splits))


def test_every_column_arrives_in_the_batch_resident_or_streamed_and_example_gives_its_shapes():
    batches = []
    for mib in (64, 0):
        data = build(source(), batch_size=6, resident_mib=mib)
        feed = next(data.train(0, 3))
        batch = jax.jit(data.prepare)(data.resident["train"], feed, None)
        batches.append(jax.tree.map(np.asarray, batch))
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), data.example(6)) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), batch
        )
        assert data.class_names == ("a", "b", "c") and data.example()["boxes"]["corners"].shape == (1, 1, 4)
    jax.tree.map(np.testing.assert_array_equal, *batches)
    # Every column is that of the same example; images beside `image` are normalised by their own statistics.
    found = batches[0]
    assert set(found) == {*KINDS, "index", "mask"} - {"patient"}
    shown = found["image"][..., 0] > 0  # [B, H, W, 1] -> [B, H, W]
    assert np.array_equal(found["instances"][:, 0] > 0, shown) and np.array_equal(found["depth"][..., 0] > 0, shown)
    rows, columns = np.argmax(shown.any(axis=2), axis=1), np.argmax(shown.any(axis=1), axis=1)
    assert np.array_equal(found["points"]["position"][:, 0], np.stack([columns, rows], axis=1))
    assert np.array_equal(found["height"][:, 0], rows)


def lazily(part: Split, *, known: bool) -> Split:
    """The split as if images and masks were decoded when they are asked for, with or without known sizes."""
    columns = dict(part.columns)
    for name in ("image", "segmentation"):
        values = columns[name]
        shape = values.shape[1:]
        varies = (None, None, *shape[2:])
        sizes = np.tile(np.array(shape[:2], np.int32), (len(values), 1)) if known else None
        columns[name] = LazyImages(lambda ids, v=values: [v[i] for i in ids], len(values), varies, sizes=sizes)
    return Split(columns)


@pytest.mark.parametrize("fit", [resize, pad, crop])
@pytest.mark.parametrize("lazy", [False, True])
def test_masks_boxes_and_points_follow_their_images_to_one_size(fit, lazy):
    opened = source()
    if lazy:
        opened = dataclasses.replace(opened, splits={n: lazily(part, known=True) for n, part in opened.splits.items()})
    data = build(opened, batch_size=6, image_size=24, image_fit=fit, validation=0.0, resident_mib=64)
    batch = data.resident["train"]
    assert batch["image"].shape[1:] == (24, 24, 1) and batch["segmentation"].shape[1:] == (24, 24)
    bright, checked = batch["image"][..., 0] > 100, 0
    scale = placement(settings_of(fit), (12, 8), 24).scale
    for number in range(len(bright)):
        valid = batch["boxes"]["valid"][number, 0]
        assert np.mean((batch["segmentation"][number] == 1) != bright[number]) < 0.05
        if not bright[number].any() or not valid:
            continue
        ys, xs = np.nonzero(bright[number])
        edges = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        # Half a pixel of the stored image is the most that interpolation moves an edge by.
        assert np.all(np.abs(batch["boxes"]["corners"][number, 0] - edges) <= 0.5 * max(scale) + 0.5)
        if batch["points"]["valid"][number, 0]:
            assert np.all(np.abs(batch["points"]["position"][number, 0] - edges[:2]) <= 0.5 * max(scale) + 0.5)
        checked += 1
    assert checked >= 6


def test_columns_that_cannot_follow_their_images_are_an_error():
    opened = source()
    opened = dataclasses.replace(opened, splits={n: lazily(part, known=False) for n, part in opened.splits.items()})
    with pytest.raises(DataError, match=r"their sizes are not known.*\n?.*boxes"):
        build(opened, batch_size=6, image_size=24)


SPLIT = rectangles(4)
WRONG = {
    "label": (np.array([0, 1, 3, 0]), "column label: example 2 has label 3, outside"),
    "tags": (np.full((4, 2), 0.5, np.float32), "neither 0 nor 1"),
    "height": (np.array([[1], [np.nan], [1], [1]], np.float32), "example 1 has a value that is not finite"),
    "segmentation": (np.full((4, 12, 8), 7, np.uint8), r"example 0 holds 7.*\n.*0 to 1 or 255"),
    "boxes": (
        {**SPLIT.columns["boxes"], "corners": np.zeros((4, 1, 4), np.float32)},
        "box 0 of example 0 is .* \\(4 such\\)",
    ),
    "instances": (np.full((4, 1, 12, 8), 2, np.uint8), "its largest value is 2"),
    "points": (np.zeros((4, 1, 2), np.float32), "expected a dict|Expected a dict of arrays: position"),
    "text": (np.full((4, 3), 2, np.int32), "0 to 1 or -1"),
    "depth": (np.zeros((4, 12, 8)), r"float64 \[4, 12, 8\]"),
    "patient": (np.arange(4), "an array \\[N\\] of texts"),
}


@pytest.mark.parametrize("column", WRONG)
def test_a_value_that_is_not_of_its_kind_is_named(column):
    values, message = WRONG[column]
    with pytest.raises(DataError, match=message):
        Source("mine", {"train": SPLIT.having(**{column: values})}, KINDS, "")


def test_columns_that_are_missing_or_differ_in_length_are_named():
    part = Split({"image": SPLIT.images, "label": SPLIT.labels[:3]})
    kinds = {"image": Image(), "label": Label(("a", "b", "c"))}
    with pytest.raises(DataError, match="4 of image, 3 of label"):
        Source("mine", {"train": part}, kinds, "")
    with pytest.raises(DataError, match=r"its columns are image.*\n.*image, label"):
        Source("mine", {"train": Split({"image": SPLIT.images})}, kinds, "")
    with pytest.raises(DataError, match="cannot be called mask"):
        Source("mine", {"train": Split({"mask": SPLIT.columns["segmentation"]})}, {"mask": Mask(("a", "b"))}, "")
    with pytest.raises(DataError, match="kind of every column"):
        Source("mine", {"train": SPLIT}, ("a", "b"), "")


def test_orders_are_functions_of_seed_and_position_and_keep_their_promises():
    groups = np.array([0] * 12 + [1] * 3 + [2] * 1)
    for name, order in ORDERS.items():
        at = order(3, groups)
        index, shown = at(np.arange(96))
        later = [order(3, groups)(np.arange(start, start + 7)) for start in (0, 5, 64)]
        for start, (one, times) in zip((0, 5, 64), later, strict=True):
            assert np.array_equal(one, index[start : start + 7]) and np.array_equal(times, shown[start : start + 7])
        # An example's count of times shown is what came before it.
        assert all(shown[place] == np.sum(index[:place] == index[place]) for place in range(96)), name
        assert np.array_equal(index, order(4, groups)(np.arange(96))[0]) == (name == "sequential")
    balanced = groups[ORDERS["balanced"](0, groups)(np.arange(48))[0]]
    assert all(sorted(turns) == [0, 1, 2] for turns in balanced.reshape(16, 3).tolist())  # [48] -> [16 rounds, 3 turns]
    assert ORDERS["sequential"](0, groups)(np.arange(14, 18))[0].tolist() == [14, 15, 0, 1]


def test_balanced_batches_pass_a_chi_square_test_for_classes_and_for_the_examples_of_each():
    groups = np.array([0] * 300 + [1] * 50 + [2] * 10)
    index = ORDERS["balanced"](0, groups)(np.arange(6400))[0]
    assert chisquare(np.bincount(groups[index])).pvalue > 0.9, "turns are drawn by rounds, so classes are nearly equal"
    for number in range(3):
        shown = np.bincount(index[groups[index] == number], minlength=360)[groups == number]
        assert chisquare(shown).pvalue > 0.9 and np.ptp(shown) <= 1
    # Which class comes first in a round is drawn anew: batches that cut rounds have no preference.
    firsts = groups[index[: 6400 - 6400 % 3 : 3]]
    assert chisquare(np.bincount(firsts, minlength=3)).pvalue > 0.01
    plain = np.bincount(groups[ORDERS["shuffled"](0, groups)(np.arange(6400))[0]])
    assert chisquare(plain).pvalue < 1e-9, "the test sees what is not balanced"


def test_example_gives_the_shapes_of_training_where_a_variation_asks_how_often_an_example_was_shown():
    one = build(source(), batch_size=6, augment=Augmentation((alternating_flip,)))
    for data in (one, paired(one, one)):
        batch = jax.eval_shape(data.prepare, data.resident["train"], next(data.train(0, 0)), jax.random.key(0))
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), data.example(6, training=True)) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), batch
        )


@pytest.mark.parametrize("resident_mib", [0, 64])
def test_two_streams_side_by_side_are_each_their_own_and_go_on_from_any_step(resident_mib):
    few = build(source(train=12), batch_size=4, resident_mib=resident_mib)
    many = build(labelled("many", {"train": (rectangles(40).images, np.zeros(40, np.int32))}, "ab"), batch_size=16)
    data = paired(few, many)
    for start in (0, 5):
        alone, beside, both = few.train(3, start), many.train(3, start), data.train(3, start)
        for _ in range(3):
            feed = next(both)
            batch = jax.jit(data.prepare)(data.resident["train"], feed, jax.random.key(0))
            assert np.array_equal(feed["index"], next(alone)["index"]) and len(batch["image"]) == 4
            assert np.array_equal(feed["unlabelled"]["index"], next(beside)["index"])
            pixels = many.images("train", feed["unlabelled"]["index"])
            expected = (pixels - few.inputs.subtract) / few.inputs.divide
            np.testing.assert_allclose(batch["unlabelled"]["image"], expected, rtol=1e-5)
        for feeds in (alone, beside, both):
            feeds.close()
    held_out = jax.jit(data.prepare)(data.resident["test"], next(data.evaluate("test", 3)), None)
    assert "unlabelled" not in held_out and data.fingerprint not in (few.fingerprint, many.fingerprint)
    assert data.example(4)["unlabelled"]["image"].shape == (4, 12, 8, 1)
    with pytest.raises(UsageError, match="images of one size and type"):
        paired(few, build(source(train=12), batch_size=4, image_size=9))
