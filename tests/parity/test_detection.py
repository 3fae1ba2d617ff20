"""The operations of detection against torchvision's, with gradients, in f64; matches and anchors exactly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.ops import anchors, box_losses, boxes, matching, regions
from tests.parity import detection_oracle as oracle
from tests.parity import fixtures

pytestmark = [pytest.mark.parity, pytest.mark.slow]

TOLERANCE = 1e-10


@functools.cache
def fixture():
    path = fixtures.detection_path()
    if not path.exists():
        pytest.skip("no fixture: `python -m tests.parity.fixtures detection` makes it (torch in an environment of its own)")
    return dict(np.load(path))


def compare(name, function, to_ours=lambda array: array, tolerance=TOLERANCE):
    """The value and the gradient of a function of x in f64; `to_ours` turns the layout of x, y and both gradients."""
    case = {key: to_ours(fixture()[f"{name}/{key}"]) for key in ("x", "y", "dy", "dx")}
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):

        @jax.jit
        def both(x, dy):
            y, pull = jax.vjp(function, x)
            return y, pull(dy)[0]

        value, gradient = both(jnp.asarray(case["x"]), jnp.asarray(case["dy"]))
    np.testing.assert_allclose(value, case["y"], rtol=0, atol=tolerance * max(1, np.abs(case["y"]).max()), err_msg=name)
    np.testing.assert_allclose(gradient, case["dx"], rtol=0, atol=tolerance * max(1, np.abs(case["dx"]).max()), err_msg=name)


def test_overlaps_and_their_losses():
    for name, function in (("iou", boxes.iou), ("giou", boxes.giou)):
        compare(name, lambda x, f=function, n=name: f(x, jnp.asarray(fixture()[f"{n}/other"])))
    # torchvision adds 1e-7 to its denominators.
    compare("giou_loss", lambda x: box_losses.giou(x, jnp.asarray(fixture()["giou_loss/other"])), tolerance=1e-7)
    compare("clipped", lambda x: boxes.clipped(x, (50, 70)))


def test_losses_of_anchors():
    for beta in (1.0, 1 / 9):
        # Ours is the sum over the four numbers: one at a time, the others being 0.
        compare(f"smooth_l1/{beta}", lambda x, b=beta: _each(x, lambda row: box_losses.smooth_l1(row, 0 * row, beta=b)))
    targets = jnp.asarray(fixture()["focal/targets"])
    compare("focal", lambda x: box_losses.sigmoid_focal(x[..., None], targets[..., None]))


def _each(x, function):
    """A function of codes [..., 4] of each number of x [N, 4] on its own, [N, 4]."""
    return function(x[..., None] * jnp.eye(1, 4, dtype=x.dtype)[None])


@pytest.mark.parametrize("name", oracle.WEIGHTS)
def test_codes_of_boxes(name):
    variances = tuple(1 / weight for weight in oracle.WEIGHTS[name])
    for operation, function in (("encode", boxes.encode), ("decode", boxes.decode)):
        against = fixture()[f"{operation}/{name}/anchors"]
        compare(f"{operation}/{name}", lambda x, f=function, a=against: f(x, jnp.asarray(a), variances))


@pytest.mark.parametrize(("aligned", "size"), oracle.ALIGNED)
def test_roi_align_inside_on_and_across_the_border(aligned, size):
    name = f"roi_align/{aligned}-{size}"
    around = fixture()[f"{name}/boxes"]

    def function(features):
        align = jax.vmap(lambda f, b: regions.roi_align(f, b, size, oracle.SCALE, 2, aligned))
        found = align(features, jnp.asarray(around))
        return found.reshape(-1, *found.shape[2:])  # [B, R, P, Q, C] -> [B·R, P, Q, C]

    compare(name, function, lambda array: array.transpose(0, 2, 3, 1))  # [·, C, ·, ·] -> [·, ·, ·, C]


def test_targets_of_masks_and_levels():
    given = (fixture()[f"masks/{key}"] for key in ("x", "boxes", "index"))
    masks, around, index = given
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        found = jax.jit(regions.cropped_masks, static_argnums=3)(masks, around.astype(np.float32), index, 6)
    np.testing.assert_allclose(found, fixture()["masks/y"], atol=1e-5)
    np.testing.assert_array_equal(jax.jit(regions.levels)(fixture()["levels/boxes"]), fixture()["levels/y"])
    whole, mask, box = fixture()["pasted/y"], fixture()["pasted/x"], fixture()["pasted/box"]
    for threshold in (0.2, 0.5, 0.7):
        near = np.abs(whole - threshold) < 1e-9
        assert np.all((regions.pasted(mask, box, oracle.PASTED, threshold) == (whole >= threshold)) | near)


@pytest.mark.parametrize("name", oracle.MATCHERS)
def test_matches(name):
    positive, negative, force = oracle.MATCHERS[name]
    overlaps, expected = fixture()[f"matcher/{name}/x"], fixture()[f"matcher/{name}/y"]
    assert np.all(overlaps.max(axis=1) > 0)
    with jax.enable_x64(True):
        # Three places without an object change nothing.
        padded = np.concatenate([overlaps, np.ones((3, overlaps.shape[1]))])
        found = jax.jit(matching.match, static_argnums=(2, 3, 4))(padded, np.arange(9) < 6, positive, negative, force)
    np.testing.assert_array_equal(found, expected)
    assert {matching.BACKGROUND, 0} <= set(expected.tolist())


def test_matches_of_ssd_where_no_two_objects_want_one_anchor():
    overlaps, expected = fixture()["matcher/ssd/x"], fixture()["matcher/ssd/y"]
    assert len(set(overlaps.argmax(axis=1).tolist())) == len(overlaps)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(jax.jit(matching.match_best_first)(overlaps, np.ones(len(overlaps), bool)), expected)


def test_anchors_of_a_proposal_network():
    strides = tuple(image // cells for image, cells in zip(oracle.GRID["image"], oracle.GRID["cells"], strict=True))
    found = anchors.grid_anchors(oracle.GRID["cells"], strides, oracle.GRID["sizes"], oracle.GRID["ratios"])
    np.testing.assert_array_equal(found, fixture()["grid/y"])


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("steps", [oracle.SSD_STEPS, None])
def test_default_boxes_of_ssd(clip, steps):
    pixels = [300 * scale for scale in oracle.SSD_SCALES]
    found = anchors.default_boxes(oracle.SSD_CELLS, (300, 300), pixels[:-1], pixels[1:], oracle.SSD_RATIOS, steps, clip)
    expected = fixture()[f"default_boxes/{clip}-{steps is None}"]
    assert found.shape == expected.shape == (8732, 4)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)  # f32 of up to 450 pixels


def test_loss_of_ssd_with_mined_negatives_and_an_image_without_objects():
    case = {key: fixture()[f"ssd/{key}"] for key in ("bbox_regression", "cls_logits", "anchors", "truth", "labels", "matched")}
    places, valid = np.zeros((2, 3, 4)), np.asarray([[True] * 3, [False] * 3])
    places[0], labels = case["truth"], np.asarray([case["labels"], [0, 0, 0]])

    def of_image(codes, logits, truth, valid, labels):
        found = matching.match_best_first(boxes.iou(truth, jnp.asarray(case["anchors"])), valid)
        positive, own = found >= 0, jnp.clip(found, 0)
        near = box_losses.smooth_l1(codes, boxes.encode(truth[own], jnp.asarray(case["anchors"])))
        each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(positive, labels[own], 0))
        counts = positive | matching.hard_negatives(each, positive, ~positive)
        return found, jnp.sum(jnp.where(positive, near, 0.0)), jnp.sum(jnp.where(counts, each, 0.0)), jnp.sum(positive)

    with jax.enable_x64(True):
        given = (case["bbox_regression"], case["cls_logits"], places, valid, labels)
        found, near, each, count = jax.device_get(jax.jit(jax.vmap(of_image))(*map(jnp.asarray, given)))
        total = max(int(count.sum()), 1)
    np.testing.assert_array_equal(found, case["matched"])
    np.testing.assert_allclose(np.sum(near) / total, fixture()["ssd/box_loss"], rtol=1e-9)
    np.testing.assert_allclose(np.sum(each) / total, fixture()["ssd/class_loss"], rtol=1e-9)
