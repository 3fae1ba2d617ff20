"""What every detector and localiser gives out: its layers, an exported program, and rows, records and pictures of boxes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from test_models_detection import THIN, size_of

from cnnlab import inspect, knobs
from cnnlab.data.placement import Placement
from cnnlab.engine.checkpoint import tree_digest
from cnnlab.engine.train import Intervals
from cnnlab.inputs import InputSpec
from cnnlab.interop import export
from cnnlab.models import DETECTORS, LOCALIZERS
from cnnlab.models.localizer import Localizer, MapLocalizer
from cnnlab.models.mask_rcnn import MaskRCNN
from cnnlab.models.two_stages import TwoStages
from cnnlab.models.vgg import VGG
from cnnlab.recipes.detection import detection
from cnnlab.tasks.detect import detect
from cnnlab.tasks.detection_metrics import BoxMetrics, Suppression
from cnnlab.tasks.instance_metrics import InstanceMetrics
from cnnlab.tasks.localization_metrics import PlaceMetrics
from cnnlab.tasks.localize import localize
from tests.stages import slow_but

NAMES = ("cat", "dog", "bird")
TRUNK = functools.partial(VGG, classes=0, depths=(1, 1, 1, 1, 1), hidden=(8, 8), grid=1, width=0.03, dropout=0.0)
PLACES = {
    "localizer": functools.partial(MapLocalizer, width=2, levels=3, hidden=8),
    "vgg16_localizer": functools.partial(Localizer, trunk=TRUNK(), boxes="per_class"),
}
"""The localisers in a cheap form; vgg16_localizer has no knob of its size."""


def made(name):
    """(the network, its task, (H, W) of its images)."""
    if name in PLACES:
        network = PLACES[name](classes=len(NAMES))
        return network, localize(network, metrics=PlaceMetrics(NAMES, "objects", 1.0, 1.0)), (32, 48)
    names, knobs = (NAMES[:1], {"least_pixels": 2}) if name == "otsu_watershed" else (NAMES, THIN[name])
    network = DETECTORS[name](classes=len(names), **knobs)
    head, given = network.head(size_of(name)), (names, "objects")
    kind = InstanceMetrics if hasattr(head, "instances") else BoxMetrics
    metrics = kind(*given, head.terms, Suppression(least_score=0.0, most=20))
    return network, detect(network, metrics=metrics), size_of(name)


def test_every_localizer_is_tested():
    assert PLACES.keys() == LOCALIZERS.keys()


LARGE = (
    "ssd300",
    "retinanet_resnet50",
    "faster_rcnn_resnet50",
    "faster_rcnn_vgg16",
    "mask_rcnn_resnet50",
    "yolo_v1",
    "yolo_v1_tiny",
    "fast_rcnn",
)
"""Networks like others of their kind, which take longest to compile."""


@pytest.mark.parametrize("name", slow_but([*DETECTORS, *PLACES], thorough=LARGE))
def test_a_network_is_inspected_exported_and_predicts(name, tmp_path):
    network, task, (height, width) = made(name)
    images = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    params, state = jax.jit(task.init)(jax.random.key(0), {"image": images})

    listed = inspect.layers(network, (height, width, 3))  # layers that the levels share have a row for each
    rows = {row.name: row for row in listed}
    assert sum(row.params for row in listed) == sum(leaf.size for leaf in jax.tree.leaves(params))
    if isinstance(network, TwoStages):  # the heads of regions: as many rows as there are proposals
        assert rows["output/class"].output[-1] == len(NAMES) + 1 and rows["output/class"].macs > rows["output/class"].params
        assert {"region1", "output/box"} <= set(rows) and ("output/mask" in rows) == isinstance(network, MaskRCNN)

    def predicted(variables, images):
        outputs = task.predict(variables["params"], variables["state"], images)
        return {"outputs": outputs, **task.prediction.arrays(outputs, images)}

    variables = {"params": params, "state": state}
    expected = jax.device_get(jax.jit(predicted)(variables, images))
    export.write_stablehlo(tmp_path / "x.stablehlo", lambda *given: predicted(*given)["outputs"], variables, images.shape[1:])
    again = export.load_stablehlo(tmp_path / "x.stablehlo")
    np.testing.assert_allclose(again(jnp.asarray(images[:1])), expected["outputs"][:1], rtol=1e-4, atol=1e-4)

    one = {key: value[0] for key, value in expected.items() if key != "outputs"}
    inputs = InputSpec((height, width, 3), "uint8", np.zeros((1, 1, 1, 3)), np.ones((1, 1, 1, 3)), NAMES, {"name": "none"})
    place = Placement((0.5, 0.5), (0.0, 0.0), (height, width), (2 * height, 2 * width))
    own = task.prediction.placed(one, place)
    found, records = task.prediction.rows(own, inputs), task.prediction.records(own, inputs, "photos/12.jpg")
    assert len(found) == len(records) == one["valid"].sum() >= 1
    for row, record in zip(found, records, strict=True):
        assert row["class"] in NAMES and 0 <= row["score"] <= 1
        assert record["image_id"] == 12 and record["category_id"] == 1 + NAMES.index(row["class"])
        assert 0 <= row["x1"] <= row["x2"] <= 2 * width and 0 <= row["y1"] <= row["y2"] <= 2 * height
        assert record.get("segmentation", {}).get("size", [2 * height, 2 * width]) == [2 * height, 2 * width]
    picture = np.full((2 * height, 2 * width, 3), 0.5, np.float32)
    (shown,) = task.prediction.maps(picture, one, place).values()
    assert shown.shape == picture.shape
    assert task.prediction.caption(one, inputs)


SIDES = {"ssd300": 300, "yolo_v1": 128, "yolo_v1_tiny": 128}
"""Sides of the images of networks whose size is given; others take 32 pixels."""
ALL_REGIONS = {"proposal_threshold": 1.0, "proposals": 1000, "before": 1000, "anchor_samples": 1000, "region_samples": 64}
"""Two stages in which rounding does not decide which anchors and proposals are learnt from."""


def trained(name, devices):
    """What toys.run returns of a short training of a network in its cheap form."""
    network = DETECTORS[name]
    fields = {field.name for field in dataclasses.fields(getattr(network, "func", network))}
    model = functools.partial(network, **THIN[name] | {knob: value for knob, value in ALL_REGIONS.items() if knob in fields})
    given = {"proposals": "selective_search"} if name in ("rcnn", "fast_rcnn") else {}
    scenes = {"dataset.examples": 60, "dataset.size": SIDES.get(name, 32), "dataset.instances": True, "dataset.most_objects": 2}
    knobs_given = {"dataset": "scenes", **scenes, "batch_size": 16, "optimizer": "momentum", "lr": 0.001, "model": model}
    experiment = knobs.resolve(detection, {**knobs_given, **given, "duration": "4 steps"}).call()
    return experiment, toys.run(experiment, devices=devices, intervals=Intervals(log=1, evaluate=100, save=2))


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("name", THIN)
def test_every_network_resumes_to_the_bit_and_has_the_same_curve_on_eight_devices(name):
    experiment, (whole, _, curve, saved) = trained(name, 1)
    resumed, *_ = toys.run(experiment, resume=(*saved[2], 2))
    assert tree_digest(resumed) == tree_digest(whole)
    _, (shared, _, other, _) = trained(name, 8)
    for step, numbers in curve.items():
        assert other[step]["loss"] == pytest.approx(numbers["loss"], rel=1e-4), step
    assert toys.gap(whole, shared) < 5e-3
