"""Images of unequal sizes on a canvas: their places, random crops that lie on them, statistics, evaluation."""

import json
import math
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data.kinds import Boxes, Image, Mask
from cnnlab.data.normalize import standard
from cnnlab.data.pipeline import build
from cnnlab.data.resize import canvas, rule_of, settings_of
from cnnlab.data.source import LazyImages, Source, Split
from cnnlab.data.variations.compose import Augmentation
from cnnlab.data.variations.crop import random_crop
from cnnlab.data.variations.mirror import flip
from cnnlab.errors import DataError, UsageError
from cnnlab.models.unet import UNet
from cnnlab.ops.dense_losses import cross_entropy
from cnnlab.tasks.segment import segment
from cnnlab.tasks.segmentation_metrics import MaskMetrics

SIZES = ((20, 31), (9, 12), (40, 24), (16, 16))
"""(H, W) of the images in turn."""

TOO_LARGE = Augmentation((partial(random_crop, size=40),))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache without entries, so that what is stored is what this version makes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def part(count: int, *, known: bool = True) -> Split:
    """Images whose pixels are 100 + row + column, masks of the parity of row + column, and a box in the corner."""
    sizes = [SIZES[number % len(SIZES)] for number in range(count)]
    places = [np.add.outer(np.arange(height), np.arange(width)) for height, width in sizes]
    pixels = [(100 + place).astype(np.uint8)[..., None] for place in places]
    masks = [(place % 2).astype(np.uint8) for place in places]
    sides = np.array(sizes, np.int32) if known else None

    def lazy(values: list[np.ndarray], *shape: int | None) -> LazyImages:
        return LazyImages(lambda ids: [values[i] for i in ids], count, shape, sizes=sides)

    corners = np.tile(np.float32([[0, 0, 6, 5]]), (count, 1, 1))  # [N, 1, 4]
    boxes = {"corners": corners, "label": np.zeros((count, 1), np.int32), "valid": np.ones((count, 1), bool)}
    return Split({"image": lazy(pixels, None, None, 1), "segmentation": lazy(masks, None, None), "objects": boxes})


def source(**known: bool) -> Source:
    kinds = {"image": Image(), "segmentation": Mask(("even", "odd")), "objects": Boxes(("corner",))}
    return Source("unequal", {"train": part(8, **known), "test": part(5, **known)}, kinds, "unequal")


def test_images_masks_and_boxes_lie_in_the_corner_of_the_canvas_at_their_scale():
    # Sides are rounded, so that a scale of a half is not exactly one.
    for scale, side in ((1.0, (48, 32)), (0.5, (32, 16))):
        data = build(source(), batch_size=2, image_fit=partial(canvas, scale=scale, multiple=16), validation=0.0)
        assert data.image_shape == (*side, 1)
        held = data.resident["test"]
        for number, size in enumerate((SIZES * 2)[:5]):
            high, wide = (math.floor(length * scale + 0.5) for length in size)
            assert held["extent"][number].tolist() == [high, wide]
            pixels, mask = held["image"][number, ..., 0], held["segmentation"][number]
            assert pixels[:high, :wide].min() >= 100 and not pixels[high:].any() and not pixels[:, wide:].any()
            assert mask[:high, :wide].max() <= 1 and np.all(mask[high:] == 255) and np.all(mask[:, wide:] == 255)
            np.testing.assert_allclose(
                held["objects"]["corners"][number, 0], scale * np.float32([0, 0, 6, 5]), atol=0.3
            )  # sides are rounded
        assert rule_of(json.loads(json.dumps(data.inputs.fit)))(np.ones((1, 4, 4, 1), np.uint8), 0).shape == (1, *side, 1)
        assert settings_of(rule_of(data.inputs.fit)) == data.inputs.fit


def test_training_sees_crops_on_the_image_and_evaluation_whole_canvases():
    augment = Augmentation((partial(random_crop, size=12), flip))
    data = build(source(), batch_size=8, image_fit=canvas, validation=0.0, augment=augment)
    prepare = jax.jit(data.prepare)
    feed, resident, seen = {"index": jnp.arange(8, dtype=jnp.int32)}, data.resident["train"], []
    for seed in range(6):
        batch = jax.tree.map(np.asarray, prepare(resident, feed, jax.random.key(seed)))
        assert batch["image"].shape == (8, 12, 12, 1) and batch["segmentation"].shape == (8, 12, 12)
        inside = batch["segmentation"] != 255
        fits = np.array([min(SIZES[number % 4]) >= 12 for number in range(8)])
        assert inside[fits].all()  # no padding, but for the image of 9 x 12, whose crop begins at its edge
        assert np.all(inside[~fits].sum(axis=(1, 2)) == 9 * 12)
        seen.append(batch)
    assert len({batch["image"][0].tobytes() for batch in seen}) >= 4
    whole = prepare(resident, {**feed, "mask": jnp.ones(8, bool)}, None)
    assert whole["image"].shape == (8, 64, 32, 1) == data.example(8)["image"].shape
    assert data.example(8, training=True)["image"].shape == (8, 12, 12, 1)
    assert np.asarray(whole["extent"]).tolist() == [list(SIZES[number % 4]) for number in range(8)]
    # An image is the same whatever is beside it in a batch.
    alone = [prepare(resident, {"index": feed["index"][i : i + 1], "mask": jnp.ones(1, bool)}, None) for i in range(2)]
    for number, one in enumerate(alone):
        jax.tree.map(lambda a, b, n=number: np.testing.assert_array_equal(a[0], b[n]), one, whole)


def test_the_normalisation_leaves_the_padding_out():
    data = build(source(), batch_size=2, image_fit=canvas, validation=0.0)
    train = part(8).images
    pixels = np.concatenate([train.read([number])[0].ravel() for number in range(8)])
    subtract, divide, *_ = standard(pixels.reshape(1, -1, 1, 1))
    np.testing.assert_allclose(data.inputs.subtract, subtract, rtol=1e-5)
    np.testing.assert_allclose(data.inputs.divide, divide, rtol=1e-4)


@pytest.mark.parametrize(
    ("error", "words", "known", "knobs"),
    [
        (UsageError, r"--image_size=16: --image_fit=canvas keeps the sizes", True, {"image_size": 16}),
        (UsageError, r"the canvas has 64 x 16 pixels .*\n?.*up to 40 x 31", True, {"image_fit": partial(canvas, width=16)}),
        (DataError, r"sizes of the images of unequal are not known", False, {}),
        (
            UsageError,
            r"--augment.random_crop.size=40: the images have 64 x 32",
            True,
            {"augment": Augmentation((partial(random_crop, size=40),))},
        ),
    ],
)
def test_what_cannot_lie_on_a_canvas_is_one_clear_error(error, words, known, knobs):
    with pytest.raises(error, match=words):
        data = build(source(known=known), batch_size=2, validation=0.0, **{"image_fit": canvas, **knobs})
        jax.eval_shape(data.prepare, data.resident["train"], {"index": jnp.zeros(2, jnp.int32)}, jax.random.key(0))


def test_a_network_of_segmentation_trains_on_crops_and_is_measured_on_canvases():
    """On shapes alone: the loss of crops of 16 x 16 and the measure of canvases of 64 x 32 take the same parameters."""
    augment = Augmentation((partial(random_crop, size=16),))
    data = build(source(), batch_size=2, image_fit=canvas, validation=0.0, augment=augment)
    metrics = MaskMetrics(("even", "odd"), 255, "segmentation")
    task = segment(UNet(classes=2, width=2, levels=2), metrics=metrics, losses=(cross_entropy,))
    key, feed = jax.random.key(0), {"index": jnp.zeros(2, jnp.int32), "mask": jnp.ones(2, bool)}
    resident = data.resident["train"]

    def losses(key: jax.Array) -> tuple[object, object]:
        params, state = task.init(key, data.prepare(resident, feed, None))
        crops = data.prepare(resident, feed, key)
        assert crops["image"].shape == (2, 16, 16, 1)
        loss, _ = task.loss(params, state, crops, key, task.turns[0])
        return loss, task.measure(params, state, data.prepare(resident, feed, None))

    loss, _ = jax.eval_shape(losses, key)
    assert loss.shape == ()
