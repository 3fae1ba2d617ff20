"""R-CNN: crops against a loop, support vector machines against a loop, what learns from what, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.models import rcnn
from cnnlab.models.region_head import Lesson, RegionHead
from cnnlab.models.svm_head import SLOPE, SVMHead
from cnnlab.ops import boxes, matching, trees
from cnnlab.ops.heads import Objects
from cnnlab.ops.proposals import Proposals, Regions
from cnnlab.recipes.detection import detection
from tests import jitted
from tests.flipping import require_every_knob_does_something

KEY = jax.random.key(0)
SIZE, CLASSES = (24, 30), 3
THIN = {"classes": CLASSES, "width": 2, "levels": 2, "crop": 8, "context": 1, "hidden": 4, "region_samples": 6}
OBJECTS = Objects(
    jnp.asarray([[2.0, 3.0, 12.0, 13.0], [15.0, 8.0, 29.0, 22.0], [0.0, 0.0, 0.0, 0.0]]),
    jnp.asarray([2, 0, 0]),
    jnp.asarray([True, True, False]),
)
REGIONS = Regions(
    # a hit of each object, one between the thresholds of the first (IoU 0.5), three far away; the last place is empty
    jnp.asarray(
        [[2, 3, 12, 12], [15, 8, 29, 20], [2, 3, 12, 8], [0, 15, 5, 20], [13, 0, 20, 6], [1, 14, 12, 23], [0, 0, 0, 0]], float
    ),
    jnp.asarray([0, 1, 0, *4 * [matching.BACKGROUND]]),
    jnp.asarray([*6 * [1.0], 0.0]),
)


def interpolated(image, x, y):
    """The value f64 [C] at a point; a point up to half a pixel beyond the border has the value at the border."""
    height, width, _ = image.shape
    if not (-1 <= x - 0.5 <= width and -1 <= y - 0.5 <= height):
        return np.zeros(image.shape[2])
    x, y = (min(max(at - 0.5, 0), side - 1) for at, side in ((x, width), (y, height)))
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    u, v = x - left, y - top
    above, below = ((1 - u) * image[row, left] + u * image[row, right] for row in (top, bottom))
    return (1 - v) * above + v * below


def test_crops_are_interpolated_in_the_dilated_box_and_beyond_the_image_is_the_mean():
    image = np.random.default_rng(0).normal(size=(*SIZE, 2)).astype(np.float32)
    corners = np.asarray([[3, 4, 9, 14], [20, 1, 30, 24], [0, 0, 30, 24]], np.float32)
    side, context = 8, 2
    found = jax.jit(rcnn.crops, static_argnums=(2, 3))(jnp.asarray(image[None]), jnp.asarray(corners[None]), side, context)
    assert found.shape == (1, 3, side, side, 2)
    for number, (x1, y1, x2, y2) in enumerate(corners.astype(float)):
        pixel = (x2 - x1) / (side - 2 * context), (y2 - y1) / (side - 2 * context)  # the box has 4 x 4 pixels of the crop
        wanted = [
            [interpolated(image, x1 + (j - context + 0.5) * pixel[0], y1 + (i - context + 0.5) * pixel[1]) for j in range(side)]
            for i in range(side)
        ]
        np.testing.assert_allclose(found[0, number], wanted, atol=1e-5)
    assert not np.asarray(found[0, 2, 0]).any() and np.asarray(found[0, 2, 2:6, 2:6]).all()


def test_a_crop_of_the_size_of_its_box_shows_the_pixels_themselves():
    image = jax.random.normal(KEY, (1, *SIZE, 3))
    found = rcnn.crops(image, jnp.asarray([[[6.0, 5.0, 10.0, 9.0]]]), 8, 2)
    np.testing.assert_allclose(found[0, 0], image[0, 3:11, 4:12], atol=1e-6)


def test_machines_learn_from_good_regions_and_the_hardest_of_each_class():
    head = SVMHead(image_size=SIZE, classes=CLASSES, hard_negatives=2)
    decisions = np.asarray(jax.random.normal(KEY, (7, CLASSES)))
    total, examples = jax.jit(head.hinge)(REGIONS, jnp.asarray(decisions), OBJECTS)
    overlaps = np.asarray(boxes.iou(REGIONS.corners, OBJECTS.corners))
    wanted, count = 0.0, 0
    for label in range(CLASSES):
        own = [place for place in (0, 1) if int(OBJECTS.label[place]) == label]
        negatives = []
        for region in range(6):
            nearest = max((overlaps[region, place] for place in own), default=0.0)
            if nearest >= 0.7:
                wanted, count = wanted + max(0.0, 1 - decisions[region, label]), count + 1
            elif nearest < 0.3:
                negatives.append(max(0.0, 1 + decisions[region, label]))
        hardest = sorted(negatives, reverse=True)[:2]
        wanted, count = wanted + sum(hardest), count + len(hardest)
    assert float(examples) == count == 8
    np.testing.assert_allclose(total, wanted, rtol=1e-6)


def test_without_objects_machines_have_negatives_alone_and_all_is_finite():
    head = SVMHead(image_size=SIZE, classes=CLASSES, hard_negatives=2)
    nothing = OBJECTS._replace(valid=jnp.zeros(3, bool))
    regions = REGIONS._replace(owner=jnp.full(7, matching.BACKGROUND))

    def loss(outputs, objects):
        terms, divisors = head.losses(Lesson(regions, outputs), objects)
        return jnp.sum(terms / divisors), (terms, divisors)

    outputs = 50 * jax.random.normal(KEY, (7, 2 * CLASSES + 1 + 4 * (CLASSES + 1)))
    (_, (terms, divisors)), slope = jax.jit(jax.value_and_grad(loss, has_aux=True))(outputs, nothing)
    assert terms[0] == 0 and divisors.tolist() == [6, 6, 6] and np.isfinite(terms).all() and np.isfinite(slope).all()


def test_scores_are_those_of_the_machines_and_boxes_those_of_the_codes():
    head = SVMHead(image_size=SIZE, classes=CLASSES)
    corners = OBJECTS.corners[:2]
    logits, decisions = jnp.zeros((2, CLASSES + 1)), jnp.asarray([[-1.0, -2.0, 1.0], [0.5, -1.0, -1.0]])
    codes = jnp.zeros((2, 4 * (CLASSES + 1)))
    rows = jnp.concatenate([corners, jnp.asarray([[1.0], [0.0]]), logits, codes, decisions], axis=1)
    found, scores = jax.jit(head.decode)(rows)
    np.testing.assert_allclose(found, jnp.broadcast_to(corners[:, None], (2, CLASSES, 4)), atol=1e-5)
    np.testing.assert_allclose(scores[0], 1 / (1 + np.exp(-SLOPE * np.asarray(decisions[0]))), rtol=1e-5)
    assert not np.asarray(scores[1]).any(), "no score for a place without a proposal"


def test_the_hardest_are_the_candidates_with_the_largest_losses():
    losses, among = jnp.asarray([3.0, 5.0, 4.0, 5.0, 9.0]), jnp.asarray([True, True, True, True, False])
    for count, wanted in ((0, []), (1, [1]), (3, [1, 2, 3]), (9, [0, 1, 2, 3])):
        assert np.flatnonzero(matching.hardest(losses, among, count)).tolist() == wanted


@pytest.mark.slow
def test_features_learn_from_the_classes_alone():
    network = rcnn.RCNN(**THIN)
    images, head = jax.random.normal(KEY, (2, *SIZE, 3)), network.head(SIZE)
    variables = jitted.init(network, KEY, images, train=False)
    both = functools.partial(jax.tree.map, lambda leaf: jnp.stack([leaf, leaf]))
    objects, proposals = both(OBJECTS), both(Proposals(REGIONS.corners, REGIONS.weight > 0))

    def terms(params):
        told = {"objects": objects, "keys": jax.random.split(KEY, 2), "proposals": proposals}
        lesson, _ = network.apply({"params": params}, images, train=True, **told)
        return jnp.sum(jax.vmap(head.losses)(lesson, objects)[0], axis=0)

    slopes = trees.flatten(jax.jit(jax.jacrev(terms))(variables["params"]))
    for number, term in enumerate(head.terms):
        moved = {path.removeprefix("output/").split("/")[0] for path, slope in slopes.items() if np.any(slope[number])}
        assert moved == {"box_loss": {"box"}, "class_loss": {"encoder", "region1", "class"}, "svm_loss": {"svm"}}[term]


def test_softmax_has_no_machines():
    head = rcnn.RCNN(**THIN, classifier="softmax").head(SIZE)
    assert type(head) is RegionHead and head.terms == ("box_loss", "class_loss")


def test_images_alone_get_a_grid_of_boxes_that_covers_them():
    found = rcnn.grid((40, 60), 2)
    corners = np.asarray(found.corners[0])
    assert found.valid.all() and corners.shape[0] < 500 and (corners[:, 2:] > corners[:, :2]).all()
    assert corners.min() == 0 and corners[:, 2].max() == 60 and corners[:, 3].max() == 40
    objects = jnp.asarray([[5.0, 5.0, 20.0, 18.0], [30.0, 2.0, 58.0, 36.0], [12.0, 10.0, 40.0, 30.0]])
    assert np.asarray(boxes.iou(objects, found.corners[0])).max(axis=1).min() > 0.5


def test_a_crop_of_context_alone_is_refused():
    network = rcnn.RCNN(**{**THIN, "context": 4})
    with pytest.raises(UsageError, match=r"--model.context=4: crops of 8 pixels.*\n.*such as 1"):
        jax.eval_shape(functools.partial(network.init, train=False), KEY, jnp.zeros((1, *SIZE, 3)))


@pytest.mark.slow
@pytest.mark.thorough
def test_every_knob_of_the_network_does_something():
    small = {"dataset": "scenes", "dataset.examples": 24, "dataset.size": 16, "batch_size": 8, "duration": "3 steps"}
    network = {
        "model": "rcnn",
        "proposals": "selective_search",
        **{f"model.{name}": THIN[name] for name in THIN if name != "classes"},
    }
    require_every_knob_does_something(detection, {**small, **network}, below="model", but=("model.backbone",))
