"""What a detector has to do, whichever it is: counts, losses with and without objects, boxes that come back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

from cnnlab import inspect
from cnnlab import knobs as knobs_of
from cnnlab.errors import UsageError
from cnnlab.models import DETECTORS, MODELS, norms, ssd
from cnnlab.models.centre import radius
from cnnlab.models.region_head import RegionHead
from cnnlab.models.resnet import ResNet
from cnnlab.ops import boxes, trees
from cnnlab.ops.heads import Objects
from tests import jitted
from tests.equalities import float_equalities
from tests.stages import slow_but

KEY = jax.random.key(0)
PUBLISHED = [  # name, knobs, image, parameters, multiply-accumulates, source
    ("ssd300", {"classes": 20}, (300, 300, 3), 26_285_486, 31_373_537_792, "torchvision, 21 classes with the background"),
    ("ssd300", {"classes": 90}, (300, 300, 3), 35_641_826, 34_858_000_000, "torchvision, 91 classes with the background"),
    ("retinanet_resnet50", {"classes": 21}, (128, 128, 3), 32_615_969, None, "torchvision"),
    ("retinanet_resnet50", {"classes": 91}, (128, 128, 3), 34_068_119, None, "torchvision"),
    ("faster_rcnn_vgg16", {"classes": 20}, (64, 64, 3), 137_078_239 - 9 * 513, None, "the authors', a softmax for each anchor"),
    ("faster_rcnn_resnet50", {"classes": 20}, (64, 64, 3), 41_449_656, None, "torchvision, 21 classes with the background"),
    ("faster_rcnn_resnet50", {"classes": 90}, (64, 64, 3), 41_808_406, None, "torchvision, 91 classes with the background"),
    ("mask_rcnn_resnet50", {"classes": 20}, (64, 64, 3), 44_077_773, None, "torchvision, 21 classes with the background"),
    ("mask_rcnn_resnet50", {"classes": 90}, (64, 64, 3), 44_454_513, None, "torchvision, 91 classes with the background"),
    ("yolo_v1", {"classes": 20}, (448, 448, 3), 271_703_550, 20_285_153_280, "figure 3 of the paper"),
    ("yolo_v1_tiny", {"classes": 20}, (448, 448, 3), 27_095_374, 1_608_015_360, "the authors' yolov1-tiny.cfg"),
]
SMALL = functools.partial(ResNet, stages=(1, 1, 1), block="basic", channels=4)
FEW = {"channels": 4, "hidden": 8, "before": 20, "proposals": 10, "anchor_samples": 16, "region_samples": 8}
MASKS = {"mask_bins": 3, "mask_channels": 4, "mask_depth": 1}
THIN = {
    "ssd": {"width": 2, "levels": 3},
    "ssd300": {"width": 0.03},
    "retinanet": {"width": 2, "levels": 3, "channels": 4, "depth": 1},
    "retinanet_resnet50": {"backbone": SMALL, "channels": 4, "depth": 1},
    "centre": {"width": 2, "levels": 3, "channels": 4},
    "fast_rcnn": {"width": 2, "levels": 3, "channels": 4, "hidden": 8, "region_samples": 8, "anchor_scales": (3.0,)},
    "faster_rcnn": {"width": 2, "levels": 3, **FEW},
    "rcnn": {"width": 2, "levels": 3, "crop": 12, "context": 1, "hidden": 8, "region_samples": 8},
    "faster_rcnn_vgg16": {"backbone": SMALL, **FEW},
    "faster_rcnn_resnet50": {"backbone": SMALL, **FEW},
    "mask_rcnn": {"width": 2, "levels": 3, **FEW, **MASKS},
    "mask_rcnn_resnet50": {"backbone": SMALL, **FEW, **MASKS},
    "yolo_grid": {"width": 2, "levels": 3, "channels": 4},
    "yolo_v1": {"width": 0.03},
    "yolo_v1_tiny": {"width": 0.06},
}
"""Knobs with which each network is cheap."""
FORMS = [
    *THIN.items(),
    ("ssd", {"width": 2, "backbone": SMALL, "first_level": 3, "maps": 4}),
    ("ssd", {"width": 2, "levels": 2, "classification": "focal", "ratios": ()}),
    ("centre", {"backbone": SMALL, "channels": 4, "norm": norms.batch_norm}),
    ("faster_rcnn", {"width": 2, "levels": 2, **FEW, "pool": "max", "boxes": "shared"}),
    ("fast_rcnn", {"width": 2, "levels": 3, "neck": "none", "first_level": 3, "maps": 1, "hidden": 8, "region_samples": 8}),
    ("mask_rcnn", {"width": 2, "levels": 2, **FEW, **MASKS, "pool": "max", "masks": "shared"}),
    ("rcnn", {"backbone": SMALL, "crop": 16, "depth": 0, "boxes": "shared", "classifier": "softmax", "region_samples": 8}),
    ("yolo_v1", {"width": 0.03, "hidden": 0, "boxes": 3}),
]
FAST = [(name, THIN[name]) for name in ("ssd", "centre", "yolo_grid")]
OBJECTS = Objects(
    jnp.asarray([[3.0, 4.0, 21.0, 30.0], [20.0, 2.0, 33.0, 12.0], [0.0, 0.0, 0.0, 0.0]]),
    jnp.asarray([1, 2, 0]),
    jnp.asarray([True, True, False]),
    masks=jnp.asarray(np.arange(37)[:, None] % 3 < np.arange(3)[:, None, None], jnp.uint8) * jnp.ones((1, 1, 45), jnp.uint8),
)
NOTHING = OBJECTS._replace(valid=jnp.zeros(3, bool))


LARGE = OBJECTS._replace(corners=4 * OBJECTS.corners)
"""The same, four times as large: a cell of YOLO has 64 pixels and one object."""


def size_of(name):
    """The size of images that a network takes: its own one, or one that no stride divides."""
    return {"ssd300": (300, 300), "yolo_v1": (128, 192), "yolo_v1_tiny": (128, 192)}.get(name, (37, 45))


def shapes(name, knobs, count=2):
    model = DETECTORS[name](classes=3, **knobs)
    images = jax.ShapeDtypeStruct((count, *size_of(name), 3), jnp.float32)
    return model, images, jax.eval_shape(functools.partial(model.init, train=False), KEY, images)


@pytest.mark.parametrize(
    ("name", "knobs", "shape", "params", "macs", "source"), slow_but(PUBLISHED, PUBLISHED[0], "yolo_v1_tiny")
)
def test_parameters_and_macs_are_the_published_ones(name, knobs, shape, params, macs, source):
    total = inspect.as_json(inspect.layers(DETECTORS[name](**knobs), shape))["total"]
    assert total["params"] == params, source
    assert macs is None or round(total["macs"], -6 if macs % 10**6 == 0 else 0) == macs, source


def test_every_detector_is_tested():
    assert {*THIN, "otsu_watershed"} == set(DETECTORS), "the last one has no parameters: tests/test_models_watershed.py"


def test_knobs_of_a_detector_have_the_help_of_the_classes_below_it():
    found = knobs_of.argument_help(DETECTORS["faster_rcnn_resnet50"])
    assert found["before"].startswith("anchors of a level") and found["pool"].startswith("align: ") and found["width"]


@pytest.mark.parametrize(("name", "knobs"), slow_but(FORMS, *FAST))
def test_outputs_are_what_the_head_reads_every_parameter_takes_part_and_no_gradient_compares_floats(name, knobs):
    model, images, variables = shapes(name, knobs)
    head, state = model.head(images.shape[1:3]), sorted(set(variables) - {"params"})
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), OBJECTS)
    told = {"objects": both, "keys": jax.random.split(KEY, 2)} if isinstance(head, RegionHead) else {}

    def loss(params, rest, images):
        (outputs, _), _ = model.apply(
            {"params": params, **rest}, images, train=True, mutable=state, rngs={"dropout": jax.random.key(1)}, **told
        )
        terms, divisors = jax.vmap(head.losses)(outputs, both)
        assert terms.shape == (2, len(head.terms)) and divisors.shape in ((2,), terms.shape)
        return jnp.sum(terms)

    rest = {collection: variables[collection] for collection in state}
    traced = jax.make_jaxpr(loss)(variables["params"], rest, images)
    _, used = partial_eval.dce_jaxpr(traced.jaxpr, [True])
    idle = [path for path, needed in zip(trees.flatten(variables["params"]), used, strict=False) if not needed]
    assert not idle, f"the loss depends on none of {idle}"
    equalities = float_equalities(jax.make_jaxpr(jax.grad(loss))(variables["params"], rest, images).jaxpr)
    assert not equalities, f"compared by == are floats in {equalities}"
    outputs, seen = jax.eval_shape(functools.partial(model.apply, train=False), variables, images)
    assert outputs.shape == seen["output"].shape and outputs.ndim == 3
    corners, scores = jax.eval_shape(head.decode, jax.ShapeDtypeStruct(outputs.shape[1:], jnp.float32))
    assert scores.shape[1] == 3 and corners.shape in ((len(scores), 4), (*scores.shape, 4))


@functools.cache
def heads():
    """{name: (head, outputs f32 [N, P] that are random)} of all kinds of heads, for images of 37 x 45 or 128 x 192."""
    found = {}
    for name, knobs in [
        ("ssd", THIN["ssd"]),
        ("retinanet", {**THIN["retinanet"], "anchor_scale": 2.0}),
        ("centre", THIN["centre"]),
        ("yolo_grid", THIN["yolo_grid"]),
        ("yolo_v1_tiny", THIN["yolo_v1_tiny"]),
    ]:
        model, images, variables = shapes(name, knobs)
        outputs, _ = jax.eval_shape(functools.partial(model.apply, train=False), variables, images)
        found[name] = model.head(images.shape[1:3]), jax.random.normal(KEY, outputs.shape[1:])
    return found


HEADS = ("ssd", "retinanet", "centre", "yolo_grid", "yolo_v1_tiny")


@pytest.mark.parametrize("name", HEADS)
def test_an_image_without_objects_has_a_finite_loss_and_none_of_boxes(name):
    head, outputs = heads()[name]
    graded = jax.jit(
        jax.value_and_grad(
            lambda outputs, objects: (lambda found: (jnp.sum(found[0]), found))(head.losses(outputs, objects)), has_aux=True
        )
    )
    for extreme in (outputs, 100 * outputs):
        for objects in (OBJECTS, NOTHING):
            (_, (terms, divisor)), gradient = graded(extreme, objects)
            assert np.isfinite(terms).all() and np.isfinite(gradient).all() and np.all(np.asarray(terms) >= 0)
            assert (terms[0] > 0) == (objects is OBJECTS)
            assert divisor >= (1 if name == "yolo_v1_tiny" else 2 * (objects is OBJECTS))
    # What lies in a place without an object counts for nothing.
    moved = OBJECTS._replace(corners=OBJECTS.corners.at[2].set(jnp.asarray([1.0, 1.0, 30.0, 30.0])))
    np.testing.assert_array_equal(graded(outputs, moved)[0][0], graded(outputs, OBJECTS)[0][0])


@pytest.mark.parametrize("name", slow_but(HEADS, "centre"))
def test_nothing_is_learned_from_what_a_crowd_covers(name):
    """With the image full of a crowd, of any class, outputs that answer for no object have no gradient, and others the same."""
    head, outputs = heads()[name]
    everything = jnp.asarray([-1000.0, -1000.0, 2000.0, 2000.0])  # anchors reach beyond the image
    crowd = NOTHING._replace(corners=NOTHING.corners.at[2].set(everything), ignored=jnp.arange(3) == 2)
    none = NOTHING._replace(ignored=jnp.zeros(3, bool))
    slope = jax.jit(jax.grad(lambda outputs, objects: jnp.sum(head.losses(outputs, objects)[0])))
    assert not np.asarray(slope(outputs, crowd)).any()
    np.testing.assert_array_equal(slope(outputs, none), slope(outputs, NOTHING))
    beside = OBJECTS._replace(corners=OBJECTS.corners.at[2].set(everything), ignored=jnp.arange(3) == 2)
    both, alone = (np.asarray(slope(outputs, objects)) for objects in (beside, OBJECTS))
    rows = both.any(axis=1)
    assert rows.any() and not np.delete(both, np.flatnonzero(alone.any(axis=1)), axis=0).any()


@pytest.mark.parametrize("name", slow_but(HEADS, "centre"))
def test_training_on_the_outputs_themselves_finds_the_objects(name):
    """Gradient descent on raw outputs ends in the true boxes with the highest scores: coding, loss and decoding agree."""
    head, outputs = heads()[name]

    objects = LARGE if name == "yolo_v1_tiny" else OBJECTS

    def loss(outputs):
        return jnp.sum(head.losses(outputs, objects)[0])

    @jax.jit
    def descend(outputs):
        def step(state, _):
            outputs, mean, square = state
            slope = jax.grad(loss)(outputs)
            mean, square = 0.9 * mean + 0.1 * slope, 0.99 * square + 0.01 * slope**2
            return (outputs - 0.05 * mean / (jnp.sqrt(square) + 1e-6), mean, square), None

        return jax.lax.scan(step, (outputs, jnp.zeros_like(outputs), jnp.zeros_like(outputs)), length=400)[0][0]

    corners, scores = head.decode(descend(0.1 * outputs - 2))
    best = np.asarray(scores).argmax(axis=0)
    for number in (0, 1):
        label = int(OBJECTS.label[number])
        overlap = boxes.iou(corners[best[label]][None], objects.corners[number][None])
        assert float(overlap[0, 0]) > 0.9 and float(scores[best[label], label]) > 0.7
    assert float(scores[:, 0].max()) < 0.2, "no object is of class 0"


@pytest.mark.parametrize(("width", "height"), [(3.0, 8.0), (20.0, 20.0), (1.0, 50.0)])
def test_the_radius_of_the_heat_is_the_largest_shift_at_which_the_overlap_is_enough(width, height):
    shift = float(radius(jnp.asarray(width), jnp.asarray(height)))
    for factor, enough in ((0.999, True), (1.01, False)):
        r = factor * shift
        moves = np.asarray([[r, r, r, r], [r, r, -r, -r], [-r, -r, r, r]], np.float32)
        moved = jnp.asarray([[0.0, 0.0, width, height]]) + moves
        overlaps = boxes.iou(jnp.asarray([[0.0, 0.0, width, height]]), moved)
        assert bool(jnp.all(overlaps > 0.7)) == enough


def test_default_boxes_of_ssd300_are_8732_and_the_smallest_map_has_large_ones():
    head = ssd.SSD300(classes=20).head((300, 300))
    assert head.anchors.shape == (8732, 4)
    np.testing.assert_allclose(boxes.centres(jnp.asarray(head.anchors[-4:]))[:, :2], 150.0)
    np.testing.assert_allclose(head.anchors[0], [4 - 15, 4 - 15, 4 + 15, 4 + 15])
    coco = ssd.SSD300(classes=90, sides="coco").head((300, 300))
    assert coco.anchors.shape == (8732, 4) and float(coco.anchors[0, 2] - coco.anchors[0, 0]) == 21


def test_l2_norm_gives_every_pixel_the_norm_of_its_factors():
    x = 3 * jax.random.normal(KEY, (2, 4, 5, 6))
    variables = jitted.init(ssd.L2Norm(), KEY, x)
    np.testing.assert_allclose(jnp.linalg.norm(jitted.apply(ssd.L2Norm(), variables, x), axis=-1), 20.0, rtol=1e-5)
    np.testing.assert_array_equal(jitted.apply(ssd.L2Norm(), variables, jnp.zeros((1, 1, 1, 6))), 0.0)


@pytest.mark.parametrize(
    ("name", "knobs", "size", "said"),
    [
        ("ssd300", {}, (200, 300), r"200x300: SSD300 takes 300x300 alone.\n.*--image_size=300"),
        ("yolo_v1_tiny", {}, (100, 128), r"multiples of 64.\n.*--model=yolo_grid"),
        ("ssd", {"backbone": MODELS["resnet18"], "first_level": 1}, (64, 64), "needs features 2 pixels apart"),
    ],
)
def test_what_a_detector_does_not_take_is_said(name, knobs, size, said):
    model, images = DETECTORS[name](classes=2, **knobs), jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    with pytest.raises(UsageError, match=said):
        jax.eval_shape(functools.partial(model.init, train=False), KEY, images)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in THIN if name != "ssd300"])
def test_a_prediction_does_not_depend_on_company(name):
    model = DETECTORS[name](classes=3, **THIN[name])
    images = jax.random.normal(KEY, (3, *size_of(name), 3))
    variables = jitted.init(model, KEY, images, train=False)
    together, _ = jitted.apply(model, variables, images, train=False)
    alone, _ = jitted.apply(model, variables, images[1:2], train=False)
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-4, atol=1e-5)
