"""Whole networks of detection against torchvision's with the same weights: raw outputs, detections and losses in f64."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.interop import convert
from cnnlab.models import DETECTORS
from cnnlab.models.mask_head import MaskHead, unpacked
from cnnlab.models.region_head import ProposalHead
from cnnlab.ops.heads import Objects
from cnnlab.tasks.detect import detect
from cnnlab.tasks.detection_metrics import BoxMetrics, Suppression
from cnnlab.tasks.instance_metrics import InstanceMetrics
from tests.parity import detectors_oracle as oracle
from tests.parity import fixtures

pytestmark = [pytest.mark.parity, pytest.mark.slow]

DRAWN = {
    "before": oracle.PROPOSALS["before"],
    "proposals": oracle.PROPOSALS["after"],
    "anchor_samples": oracle.DRAWN["anchors"],
    "region_samples": oracle.DRAWN["regions"],
}
KNOBS = {
    "ssd300_vgg16": ("ssd300", {"sides": "torchvision"}),
    "retinanet_resnet50_fpn": ("retinanet_resnet50", {}),
    "fasterrcnn_resnet50_fpn": ("faster_rcnn_resnet50", DRAWN),
    "maskrcnn_resnet50_fpn": ("mask_rcnn_resnet50", DRAWN),
}
OF_REGIONS = ("loss_rpn_box_reg", "loss_objectness", "loss_box_reg", "loss_classifier")
TERMS = {
    "ssd300_vgg16": ("bbox_regression", "classification"),
    "retinanet_resnet50_fpn": ("bbox_regression", "classification"),
    "fasterrcnn_resnet50_fpn": OF_REGIONS,
    "maskrcnn_resnet50_fpn": (*OF_REGIONS, "loss_mask"),
}
"""torchvision's names of the terms of the loss, in our order."""
HAS_BACKGROUND = ("retinanet_resnet50_fpn",)
"""Networks of torchvision whose class 0, which no object has, is a class as any other: labels are the same here."""


def of_fixture(name):
    """The arrays of a network of the fixture."""
    path = fixtures.detectors_path()
    if not path.exists():
        pytest.skip("no fixture: `python -m tests.parity.fixtures detectors` makes it (torch in an environment of its own)")
    with np.load(path) as file:
        return {key.removeprefix(f"{name}/"): file[key] for key in file.files if key.startswith(f"{name}/")}


def network_of(name, fixture):
    """The network and its variables, {collection: …} in f32, by the scheme of its family."""
    ours, knobs = KNOBS[name]
    model = DETECTORS[ours](classes=oracle.CLASSES + (name in HAS_BACKGROUND), **knobs)
    state = {leaf.removeprefix("state/"): value for leaf, value in fixture.items() if leaf.startswith("state/")}
    height, width = oracle.SIZES[name]
    leaves, report = convert.convert(state, model, convert.shapes_of(model, (height, width, 3)))
    assert not (report.missing or report.unexpected or report.wrong)
    return model, convert.unflatten(leaves)


def batch_of(name, fixture):
    """The images and their objects, padded to four places."""
    images = fixture["input"].transpose(0, 2, 3, 1)  # [B, C, H, W] -> [B, H, W, C]
    corners, label, valid = (
        np.zeros((len(images), 4, 4)),
        np.zeros((len(images), 4), np.int32),
        np.zeros((len(images), 4), bool),
    )
    masks = np.zeros((len(images), 4, *images.shape[1:3]), np.uint8)
    for number in range(len(images)):
        truth = fixture[f"{number}/true_boxes"]
        corners[number, : len(truth)], valid[number, : len(truth)] = truth, True
        label[number, : len(truth)] = fixture[f"{number}/true_labels"] - (name not in HAS_BACKGROUND)
        if "0/true_masks" in fixture:
            masks[number, : len(truth)] = fixture[f"{number}/true_masks"]
    there = {"mask": np.ones(len(images), bool), "index": np.arange(len(images), dtype=np.int32)}
    return {
        "image": images.astype(np.float64),
        "objects": {"corners": corners, "label": label, "valid": valid},
        "instances": masks,
        **there,
    }


@functools.cache
def compared(name):
    """(fixture, raw outputs, those of anchors, rows of a held-out split) of a network in f64, by one compiled program."""
    fixture = of_fixture(name)
    model, variables = network_of(name, fixture)
    size, names = oracle.SIZES[name], tuple(map(str, range(model.classes)))
    head = model.head(size)
    if name == "retinanet_resnet50_fpn":  # whose loss of boxes is linear from 0 on there
        head = dataclasses.replace(head, beta=1e-12)
        object.__setattr__(model, "head", lambda size: head)
    before = {"before": oracle.EVERYTHING} if name == "retinanet_resnet50_fpn" else {}
    suppression = Suppression(**{**oracle.DETECTIONS, **before})
    given = (names, "objects", head.terms, suppression)
    has_masks = isinstance(head, MaskHead)
    task = detect(model, metrics=InstanceMetrics(*given, masks="instances") if has_masks else BoxMetrics(*given))
    chosen = {"suppression": suppression} if has_masks else {}

    def everything(variables, batch):
        params, state = {"detector": variables["params"]}, {key: variables[key] for key in variables if key != "params"}
        raw, _ = model.apply(variables, batch["image"], train=False, **chosen)
        of_anchors = None
        if isinstance(head, ProposalHead):
            objects = Objects(**batch["objects"], masks=batch["instances"])
            told = {"objects": objects, "keys": jax.vmap(jax.random.key)(batch["index"])}
            of_anchors = model.apply(variables, batch["image"], train=False, **told)[0].proposals
        return raw, of_anchors, task.measure(params, state, batch)["rows"]

    # Anchors are f32 numbers beside outputs in f64.
    with jax.enable_x64(True), jax.default_matmul_precision("highest"), jax.numpy_dtype_promotion("standard"):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        found = jax.device_get(jax.jit(everything)(wide, batch_of(name, fixture)))
    return fixture, *found


@pytest.mark.parametrize("name", KNOBS)
def test_raw_outputs_equal_the_reference(name):
    fixture, raw, of_anchors, _ = compared(name)
    if of_anchors is None:
        ours = {"codes": raw[..., :4], "logits": raw[..., 4:]}
    elif "0/masks" in fixture:  # whose outputs are detections: the test below
        ours = {"anchor_logits": of_anchors[..., :1], "anchor_codes": of_anchors[..., 1:]}
    else:
        split = 5 + fixture["logits"].shape[-1]
        ours = {"proposals": raw[..., :4], "logits": raw[..., 5:split], "codes": raw[..., split:]}
        ours |= {"anchor_logits": of_anchors[..., :1], "anchor_codes": of_anchors[..., 1:]}
        assert raw[..., 4].all(), "every place holds a proposal"
    signal = float(fixture["signal"])
    for part, values in ours.items():
        scale = signal if part != "proposals" else max(oracle.SIZES[name])
        assert scale >= 1e-2 * np.abs(fixture[part]).max(), "the reference hardly depends on the image"
        np.testing.assert_allclose(values, fixture[part], rtol=0, atol=1e-10 * scale, err_msg=part)


@pytest.mark.parametrize("name", KNOBS)
def test_detections_are_the_same_boxes_in_the_same_order_with_the_same_scores(name):
    fixture, raw, _, rows = compared(name)
    # The default boxes of SSD are f32 numbers here.
    tolerance = 1e-4 if name == "ssd300_vgg16" else 1e-8
    for number, valid in enumerate(rows["found_valid"]):
        expected = fixture[f"{number}/boxes"]
        assert valid.sum() == len(expected) > 10
        np.testing.assert_allclose(rows["found_corners"][number][valid], expected, rtol=0, atol=tolerance)
        np.testing.assert_allclose(rows["found_score"][number][valid], fixture[f"{number}/scores"], rtol=1e-9)
        labels = fixture[f"{number}/labels"] - (name not in HAS_BACKGROUND)
        np.testing.assert_array_equal(rows["found_label"][number][valid], labels)
        assert len(set(labels.tolist())) > 1
        if f"{number}/masks" in fixture:
            masks, expected = unpacked(raw[number])["mask"][valid], fixture[f"{number}/masks"]
            assert masks.shape == expected.shape == (len(labels), 28, 28) and np.ptp(expected) > 0.5
            np.testing.assert_allclose(masks, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", KNOBS)
def test_terms_of_the_loss_of_a_batch_equal_the_reference(name):
    fixture, _, _, rows = compared(name)
    terms, divisors = rows["loss_terms"].transpose(1, 0, 2)  # [B, 2, T] -> two of [B, T]
    assert (divisors > 0).all()
    # Ours is over the batch; there, RetinaNet's is the mean of the images' own means.
    is_by_image = name == "retinanet_resnet50_fpn"
    found = np.mean(terms / divisors, axis=0) if is_by_image else terms.sum(axis=0) / divisors.sum(axis=0)
    for term, ours in zip(TERMS[name], found.tolist(), strict=True):
        expected = fixture[f"loss/{term}"]
        # The default boxes of SSD are f32 numbers here, as torchvision's loss of objectness is.
        rtol = 1e-6 if name == "ssd300_vgg16" or expected.dtype == np.float32 else 1e-9
        np.testing.assert_allclose(ours, float(expected), rtol=rtol, err_msg=term)
