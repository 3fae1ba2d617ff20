"""Variations: what each does to images, that each depends on its example alone, and that all columns follow the image."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from cnnlab.data import motion
from cnnlab.data.kinds import Boxes, Points
from cnnlab.data.variations import AUGMENTS
from cnnlab.data.variations.compose import Augmentation
from cnnlab.data.variations.crop import pad_crop
from cnnlab.data.variations.elastic import _smoothing
from cnnlab.data.variations.mirror import alternating_flip, flip
from cnnlab.data.variations.warp import rotation, shearing
from cnnlab.errors import UsageError
from cnnlab.ops.keys import folded
from tests.stages import slow_but
from tests.varied import KINDS, MIXED, examples_of, images_and_keys, vary

MIXING = ("mixup", "cutmix")
QUICK = ("alternating_flip_crop", "quarter_turns", "shift_rotate", "drop_channel", "cutout")
"""One of each kind in the fast stage, in which tests/test_data_mixing.py has the partners of mixtures on eight devices.
tests/test_data_canvas.py has random_crop, which changes shapes."""
IN_PLACE = (
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "color_jitter",
    "grayscale",
    "drop_channel",
    "random_fringe",
    "noise",
    "blur",
)
ERASING = ("cutout", "random_erasing")


@pytest.mark.parametrize("name", slow_but([name for name in AUGMENTS if name != "random_crop"], *QUICK))
def test_a_variation_is_the_same_on_one_device_and_on_eight_and_keeps_shapes_types_and_range(name: str):
    """Eight devices have one example each, so no example depends on those beside it but for the partner of a mixture."""
    images, keys = images_and_keys(batch=8, height=8, width=8, channels=3)
    columns = MIXED if name in MIXING else tuple(KINDS)
    augment, kinds = Augmentation((AUGMENTS[name],)), KINDS

    def varied(values: Any, keys: jax.Array, feed: Any) -> Any:
        examples = examples_of(images[:1])
        return augment(type(examples)(values, kinds), keys, **{column: feed[column] for column in augment.columns}).columns

    values = examples_of(images, columns).columns
    feed = {"index": jnp.arange(8, dtype=jnp.int32), "epoch": jnp.zeros(8, jnp.int32)}
    compiled = jax.jit(varied)
    whole = compiled(values, keys, feed)
    split = jax.pmap(varied, axis_name="devices")(*jax.tree.map(lambda leaf: leaf[:, None], (values, keys, feed)))
    jax.tree.map(lambda one, eight: np.testing.assert_allclose(one, eight[:, 0], atol=1e-5), whole, split)
    image = np.asarray(whole["image"])
    assert image.shape == images.shape and image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1 + 1e-6
    assert not np.array_equal(image, images)
    kept = [one for one in columns if name not in MIXING or one != "label"]
    assert jax.tree.map(jnp.shape, [whole[one] for one in kept]) == jax.tree.map(jnp.shape, [values[one] for one in kept])
    assert all(
        a.dtype == b.dtype for one in kept for a, b in zip(*map(jax.tree.leaves, (whole[one], values[one])), strict=True)
    )
    if name != "alternating_flip":
        assert not np.array_equal(image, compiled(values, jnp.roll(keys, 1), feed)["image"])


def test_flip_twice_is_the_identity_and_probability_is_honoured():
    images, keys = images_and_keys()
    always = functools.partial(vary, "flip", probability=1.0)
    np.testing.assert_array_equal(always(images, keys), images[:, :, ::-1])
    np.testing.assert_array_equal(always(always(images, keys), keys), images)
    np.testing.assert_array_equal(vary("flip", images, keys, probability=0.0), images)
    np.testing.assert_array_equal(vary("vertical_flip", images, keys, probability=1.0), images[:, ::-1])
    many, keys = images_and_keys(batch=2000, height=1, width=2, channels=1)
    flipped = np.any(np.asarray(vary("flip", many, keys) != many), axis=(1, 2, 3)).mean()
    assert abs(flipped - 0.5) < 0.05  # 4.5 standard deviations


def test_alternating_flip_mirrors_every_image_in_every_second_epoch_exactly():
    images, keys = images_and_keys(batch=400, height=2, width=2, channels=1)
    examples, index = examples_of(images, ("image",)), jnp.arange(400)
    by_epoch = [
        np.asarray(alternating_flip(examples, jnp.roll(keys, epoch), index=index, epoch=jnp.full(400, epoch)).columns["image"])
        for epoch in range(4)
    ]
    mirrored = np.asarray(images[:, :, ::-1])
    begins = np.all(by_epoch[0] == mirrored, axis=(1, 2, 3))
    assert abs(begins.mean() - 0.5) < 0.11  # 4.4 standard deviations
    for epoch, seen in enumerate(by_epoch):
        flipped = begins ^ (epoch % 2 == 1)
        np.testing.assert_array_equal(seen, np.where(flipped[:, None, None, None], mirrored, images))


def test_a_crop_shows_zeros_the_reflected_image_or_its_mean_at_its_edge():
    images, keys = images_and_keys(batch=50, height=5, width=5, channels=2)
    images = images + 1.0
    assert float(vary("pad_crop", images, keys, pad=2).min()) == 0.0
    assert float(vary("pad_crop", images, keys, pad=2, edge="reflect").min()) >= 1.0
    mean = np.asarray(images).mean(axis=(1, 2), keepdims=True)
    zeros, filled = (np.asarray(vary("pad_crop", images, keys, pad=2, edge=edge)) for edge in ("zeros", "mean"))
    np.testing.assert_allclose(filled, np.where(zeros == 0, mean, zeros), atol=1e-6)


def test_a_reflected_window_is_a_part_of_the_image_that_numpy_reflects():
    image = np.arange(50, dtype=np.float32).reshape(5, 5, 2)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    for top, left in ((0, 4), (3, 1)):
        drawn = motion.window((5, 5), jnp.int32(top), jnp.int32(left), pad=2, edge="reflect")
        shown = drawn.pixels(jnp.asarray(image), "nearest", drawn.fill(jnp.asarray(image)))
        np.testing.assert_array_equal(shown, padded[top : top + 5, left : left + 5])


def test_shift_and_shift_rotate_of_nothing_are_the_identity():
    images, keys = images_and_keys()
    np.testing.assert_array_equal(vary("shift", images, keys, pixels=0.0), images)
    np.testing.assert_array_equal(vary("shift_rotate", images, keys, degrees=0.0, pixels=0.0, zoom=0.0), images)


def test_pad_crop_is_a_whole_pixel_shift_with_zeros_and_reaches_every_place():
    images, keys = images_and_keys(batch=200, height=3, width=3, channels=1)
    images = jnp.zeros_like(images).at[:, 1, 1, 0].set(1.0)
    out = np.asarray(vary("pad_crop", images, keys, pad=1))[..., 0]
    assert set(out.sum(axis=(1, 2)).tolist()) == {1.0}
    assert len(np.unique(out.reshape(200, 9).argmax(axis=1))) == 9
    assert np.asarray(vary("pad_crop", images, keys, pad=2)).sum() < 200  # some leave the picture


def affine(image: jax.Array, matrix: Any, offset: Any = (0.0, 0.0), edge: motion.Edge = "zeros") -> jax.Array:
    drawn = motion.affine(image.shape[:2], matrix, jnp.asarray(offset), edge)
    return drawn.pixels(image, "bilinear", drawn.fill(image))


def test_a_warp_rotates_as_numpy_does_and_moves_and_enlarges():
    image = jax.random.uniform(jax.random.key(1), (8, 8, 3))
    for turns in (1, 2, 3):
        turned = affine(image, rotation(jnp.float32(90 * turns)))
        np.testing.assert_allclose(turned, np.rot90(image, turns), atol=1e-5)
        quarter = motion.quarter_turn((8, 8), jnp.int32(turns))
        np.testing.assert_array_equal(quarter.pixels(image, "nearest", 0.0), np.rot90(image, turns))
    moved = affine(image, rotation(jnp.float32(0)), (2.0, -1.0))
    np.testing.assert_array_equal(moved[2:, :-1], image[:-2, 1:])
    assert float(jnp.abs(moved[:2]).sum()) == 0
    ramp = jnp.tile(jnp.arange(9, dtype=jnp.float32)[:, None, None], (1, 9, 1))
    enlarged = affine(ramp, rotation(jnp.float32(0), 2.0))
    np.testing.assert_allclose(enlarged[:, 4, 0], 2 + np.arange(9) / 2, atol=1e-5)


@pytest.mark.parametrize(("edge", "mode"), [("zeros", "constant"), ("reflect", "mirror"), ("mean", "constant")])
def test_a_warp_equals_that_of_scipy(edge: motion.Edge, mode: str):
    image = np.asarray(jax.random.uniform(jax.random.key(2), (7, 6, 2)))
    a, b, c, d = (
        np.asarray(one) for one in (*rotation(jnp.float32(25.0), 0.8)[:2], *shearing(jnp.float32(0.3), jnp.float32(0))[2:])
    )
    matrix, offset, middle = np.array([[a, b], [c, d]]), np.array([1.5, -0.7]), np.array([3.0, 2.5])
    ours = affine(jnp.asarray(image), tuple(map(jnp.asarray, (a, b, c, d))), offset.astype(np.float32), edge)
    for channel in range(2):
        plane = image[..., channel]
        fill = plane.mean() if edge == "mean" else 0.0
        # scipy's `constant` takes nothing of a pixel whose place lies outside; with a border of the fill it interpolates there.
        padded = np.pad(plane, 9, constant_values=fill) if mode == "constant" else np.pad(plane, 5, mode="reflect")
        pad = (padded.shape[0] - 7) // 2
        shift = middle + pad - matrix @ (middle + offset)
        theirs = scipy.ndimage.affine_transform(padded, matrix, shift, output_shape=(7, 6), order=1, cval=fill, mode="nearest")
        np.testing.assert_allclose(ours[..., channel], theirs, atol=1e-4)


def test_bilinear_equals_jax_map_coordinates():
    image = jax.random.uniform(jax.random.key(2), (6, 5, 1))
    rows, columns = jax.random.uniform(jax.random.key(3), (2, 6, 5), minval=-2.0, maxval=8.0)
    expected = jax.scipy.ndimage.map_coordinates(image[..., 0], [rows, columns], order=1)
    np.testing.assert_allclose(motion.bilinear(image, rows, columns)[..., 0], expected, atol=1e-6)


def test_a_random_resized_crop_is_pillows_resized_part_of_the_image():
    from PIL import Image

    image = np.asarray(jax.random.uniform(jax.random.key(4), (12, 10)))
    drawn = motion.resized_crop((12, 10), jnp.float32([3.0, 2.0]), jnp.float32([6.0, 5.0]))
    theirs = Image.fromarray(image[3:9, 2:7]).resize((10, 12), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(drawn.pixels(jnp.asarray(image)[..., None], "bilinear", 0.0)[..., 0], theirs, atol=1e-5)
    with pytest.raises(UsageError, match=r"--area=0\.5,0\.1: no range\.\nExpected LOW,HIGH with 0 < LOW <= HIGH up to 1"):
        vary("random_resized_crop", *images_and_keys(), area=(0.5, 0.1))


def test_the_field_of_an_elastic_distortion_is_smoothed_as_scipy_does():
    noise = np.asarray(jax.random.uniform(jax.random.key(5), (14, 11), minval=-1.0))
    ours = _smoothing(14, 1.5) @ noise @ _smoothing(11, 1.5).T
    np.testing.assert_allclose(ours, scipy.ndimage.gaussian_filter(noise, 1.5, mode="constant", truncate=20), atol=1e-6)


SIZE = (40, 48)
MOTIONS: dict[str, Callable[[], motion.Motion]] = {
    "mirror": lambda: motion.mirror(SIZE, jnp.bool_(True)),
    "vertical": lambda: motion.mirror(SIZE, jnp.bool_(True), axis="vertical"),
    "half turn": lambda: motion.quarter_turn(SIZE, jnp.int32(2)),
    "window": lambda: motion.window(SIZE, jnp.int32(1), jnp.int32(7), pad=4),
    "reflected window": lambda: motion.window(SIZE, jnp.int32(8), jnp.int32(0), pad=4, edge="reflect"),
    "shift": lambda: motion.affine(SIZE, rotation(jnp.float32(0)), jnp.float32([-6.0, 3.0])),
    "rotation": lambda: motion.affine(SIZE, rotation(jnp.float32(20.0), 1.1), jnp.float32([2.0, -3.0])),
    "shear": lambda: motion.affine(SIZE, shearing(jnp.float32(0.3), jnp.float32(-0.1)), jnp.zeros(2)),
    "crop": lambda: motion.resized_crop(SIZE, jnp.float32([6.0, 9.0]), jnp.float32([24.0, 30.0])),
    "cut": lambda: motion.cut((30, 36), jnp.int32(3), jnp.int32(8)),
    "elastic": lambda: motion.displacement(SIZE, wave()),
}
"""One motion of each family on an image of 40 x 48."""


def wave() -> jax.Array:
    field = 3 * jnp.sin(jnp.arange(40.0)[:, None] / 8 + jnp.arange(48.0)[None, :] / 9)
    return jnp.stack([field, field[::-1]])


@pytest.mark.parametrize("name", MOTIONS)
def test_boxes_points_and_masks_stay_with_the_pixels_of_the_image(name: str):
    """The box around the moved pixels of a box is the moved box; a point stays on its pixel; ignored pixels stay ignored."""
    x1, y1, x2, y2 = 10, 12, 30, 26
    mask = np.zeros(SIZE, np.uint8)
    mask[y1:y2, x1:x2] = 1
    mask[y1:y2, x1] = 255  # an ignored border between object and background
    values = {
        "mask": mask,
        "objects": (mask > 0)[None].astype(np.uint8),
        "boxes": {"corners": np.float32([[x1, y1, x2, y2]]), "label": np.int32([1]), "valid": np.array([True])},
        "points": {"position": np.float32([[x1 + 5.5, y1 + 3.5]]), "valid": np.array([True])},
    }
    bright, spot = np.zeros((2, *SIZE, 1), np.float32)
    bright[y1:y2, x1 + 1 : x2] = 1.0
    spot[y1 + 3, x1 + 5] = 1.0

    def move(values: Any) -> Any:
        drawn = MOTIONS[name]()
        columns = {column: KINDS[column].moved(value, drawn) for column, value in values.items()}
        return columns, drawn.pixels(jnp.asarray(bright), "nearest", 0.0), drawn.pixels(jnp.asarray(spot), "bilinear", 0.0)

    moved, lit, weights = jax.tree.map(np.asarray, jax.jit(move)(jax.tree.map(jnp.asarray, values)))
    rows, columns = np.nonzero(moved["objects"][0])
    around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(moved["boxes"]["corners"][0], around, atol=2.5 if name == "elastic" else 1.0)
    assert moved["boxes"]["valid"][0] and moved["boxes"]["label"][0] == 1
    # Where the moved pixel of the object was ignored, the moved mask ignores it, and outside of the image it always does.
    np.testing.assert_array_equal(lit[..., 0] == 1, moved["mask"] == 1)
    assert set(np.unique(moved["mask"])) <= {0, 1, 255} and (moved["mask"] == 255).any()
    middles = [(weights[..., 0].sum(axis) * (np.arange(weights.shape[1 - axis]) + 0.5)).sum() for axis in (0, 1)]
    np.testing.assert_allclose(moved["points"]["position"][0], np.array(middles) / weights.sum(), atol=0.35)


def test_a_box_with_too_little_of_its_area_left_and_a_point_outside_are_not_valid():
    drawn = motion.window((8, 8), jnp.int32(0), jnp.int32(8), pad=4)  # moved by 4 to the left and down
    corners = jnp.float32([[0.0, 0.0, 5.0, 4.0], [0.0, 0.0, 6.0, 4.0], [5.0, 5.0, 7.0, 8.0]])
    value = {"corners": corners, "label": jnp.int32([1, 1, 1]), "valid": jnp.array([True, True, True])}
    moved = Boxes(("a", "b"), least_remaining=0.3).moved(value, drawn)
    np.testing.assert_array_equal(moved["corners"], [[0, 4, 1, 8], [0, 4, 2, 8], [1, 8, 3, 8]])
    assert moved["valid"].tolist() == [False, True, False]
    points = {"position": jnp.float32([[3.0, 1.0], [4.0, 1.0], [4.0, 5.0]]), "valid": jnp.array([True, True, True])}
    assert Points().moved(points, drawn)["valid"].tolist() == [False, True, False]


def test_points_change_places_in_a_mirrored_image_where_their_kind_says_so():
    value = {"position": jnp.float32([[1.0, 2.0], [6.0, 2.0], [4.0, 5.0]]), "valid": jnp.array([True, False, True])}
    eyes = Points(("left eye", "right eye", "mouth"), mirrored=(1, 0, 2))
    seen = eyes.moved(value, motion.mirror((8, 8), jnp.bool_(True)))
    np.testing.assert_array_equal(seen["position"], [[2, 2], [7, 2], [4, 5]])
    assert seen["valid"].tolist() == [False, True, True]
    turned = motion.quarter_turn((8, 8), jnp.int32(2))
    np.testing.assert_array_equal(eyes.moved(value, turned)["position"], Points().moved(value, turned)["position"])


def test_several_variations_follow_one_another_each_with_the_stream_of_its_place():
    images, keys = images_and_keys()
    examples = examples_of(images, ("image",))
    both = Augmentation((flip, functools.partial(pad_crop, pad=1)))(examples, keys).columns["image"]
    expected = pad_crop(flip(examples, folded(keys, 0)), folded(keys, 1), pad=1).columns["image"]
    np.testing.assert_array_equal(both, expected)
    np.testing.assert_array_equal(both, vary("flip_crop", images, keys, pad=1))
    assert Augmentation()(examples, keys) is examples

    def mine(images: jax.Array, keys: jax.Array, *, epoch: jax.Array) -> jax.Array:
        return images * epoch[:, None, None, None].astype(jnp.float32)

    augment = Augmentation((mine, flip))
    assert augment.columns == ("epoch",)
    seen = augment(examples, keys, epoch=jnp.zeros(12, jnp.int32)).columns["image"]
    assert float(jnp.abs(seen).sum()) == 0


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("flip", {"probability": 1.0}),
        ("pad_crop", {"pad": 1}),
        ("flip_crop", {"pad": 1}),
        ("flip_crop", {"probability": 1.0}),
        ("shift", {"pixels": 1.0}),
        ("shift_rotate", {"degrees": 40.0}),
        ("shift_rotate", {"pixels": 1.0}),
        ("shift_rotate", {"zoom": 0.5}),
    ],
)
def test_a_variations_knob_does_something(name: str, knobs: dict[str, float]):
    images, keys = images_and_keys()
    assert not np.array_equal(vary(name, images, keys, **knobs), vary(name, images, keys))


def test_a_variation_in_place_leaves_all_columns_but_the_image():
    images, keys = images_and_keys(batch=4, height=8, width=8, channels=3)
    examples = examples_of(images)

    def require_all_but_the_image(keys: jax.Array) -> None:
        for name in (*IN_PLACE, *ERASING):
            columns = Augmentation((AUGMENTS[name],))(examples, keys).columns
            assert all(columns[column] is examples.columns[column] for column in columns if column != "image"), name

    jax.eval_shape(require_all_but_the_image, keys)
