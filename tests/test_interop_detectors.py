"""Weights of torchvision's networks of detection, by their names of all releases, and what a detector starts from."""

import functools
import logging
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from cnnlab.interop import convert
from cnnlab.interop.start import network_started_from
from cnnlab.models import DETECTORS
from cnnlab.models.resnet import ResNet
from cnnlab.ops import trees

SMALL = functools.partial(ResNet, stages=(1, 1, 1, 1), block="basic", channels=4)
THIN = {
    "ssd300": {"width": 0.02, "sides": "torchvision"},
    "retinanet_resnet50": {"backbone": SMALL, "channels": 4},
    "faster_rcnn_resnet50": {"backbone": SMALL, "channels": 4, "hidden": 6},
}
SIZES = {"ssd300": (300, 300, 3), "retinanet_resnet50": (64, 96, 3), "faster_rcnn_resnet50": (64, 96, 3)}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
RESNET = {
    r"backbone/stem/conv": "backbone.body.conv1",
    r"backbone/stem/norm": "backbone.body.bn1",
    r"backbone/stage(\d)_block1/conv(\d)": r"backbone.body.layer\1.0.conv\2",
    r"backbone/stage(\d)_block1/norm(\d)": r"backbone.body.layer\1.0.bn\2",
    r"backbone/stage(\d)_block1/shortcut/conv": r"backbone.body.layer\1.0.downsample.0",
    r"backbone/stage(\d)_block1/shortcut/norm": r"backbone.body.layer\1.0.downsample.1",
}
VGG = {"conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7, "conv3_1": 10, "conv3_2": 12, "conv3_3": 14}
VGG |= {"conv4_1": 17, "conv4_2": 19, "conv4_3": 21}
"""Numbers of the convolutions among torchvision's layers of VGG-16."""
NAMES = {
    "ssd300": {
        **{ours: f"backbone.features.{number}" for ours, number in VGG.items()},
        **{f"conv5_{n}": f"backbone.extra.0.{2 * n - 1}" for n in (1, 2, 3)},
        **{f"conv{n}_{half + 1}": f"backbone.extra.{n - 7}.{2 * half}" for n in range(8, 12) for half in (0, 1)},
        "conv4_3_norm": "backbone.scale_weight",
        "fc6": "backbone.extra.0.7.1",
        "fc7": "backbone.extra.0.7.3",
        r"output/class(\d)": r"head.classification_head.module_list.\1",
        r"output/box(\d)": r"head.regression_head.module_list.\1",
    },
    "retinanet_resnet50": {
        **RESNET,
        **{f"pyramid/lateral{level}": f"backbone.fpn.inner_blocks.{level - 3}.0" for level in (3, 4, 5)},
        **{f"pyramid/level{level}": f"backbone.fpn.layer_blocks.{level - 3}.0" for level in (3, 4, 5)},
        r"pyramid/level([67])": r"backbone.fpn.extra_blocks.p\1",
        **{f"class_tower{n}/conv": f"head.classification_head.conv.{n - 1}.0" for n in range(1, 5)},
        **{f"box_tower{n}/conv": f"head.regression_head.conv.{n - 1}.0" for n in range(1, 5)},
        r"output/class(/conv)?": "head.classification_head.cls_logits",
        r"output/box(/conv)?": "head.regression_head.bbox_reg",
    },
    "faster_rcnn_resnet50": {
        **RESNET,
        **{f"pyramid/lateral{level}": f"backbone.fpn.inner_blocks.{level - 2}.0" for level in (2, 3, 4, 5)},
        **{f"pyramid/level{level}": f"backbone.fpn.layer_blocks.{level - 2}.0" for level in (2, 3, 4, 5)},
        "proposal/conv": "rpn.head.conv.0.0",
        "proposal/logit": "rpn.head.cls_logits",
        "proposal/box": "rpn.head.bbox_pred",
        "region1": "roi_heads.box_head.fc6",
        "region2": "roi_heads.box_head.fc7",
        "output/class": "roi_heads.box_predictor.cls_score",
        "output/box": "roi_heads.box_predictor.bbox_pred",
    },
}
"""Our layers, as regular expressions, and torchvision's names for them."""
OLD = (
    (r"^(backbone\.fpn\.\w+_blocks\.\d)\.0\.", r"\1."),
    (r"^rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
    (r"^(head\.\w+_head\.conv)\.(\d)\.0\.", lambda found: f"{found[1]}.{2 * int(found[2])}."),
)
"""What older releases call these layers, among them those of the published weights."""


def as_torch(name, variables):
    """The state dict of torchvision for variables, {"collection/layer/leaf": array}."""
    found = {}
    for path, leaf in variables.items():
        layer, _, last = path.partition("/")[2].rpartition("/")
        (theirs,) = [re.sub(pattern, text, layer) for pattern, text in NAMES[name].items() if re.fullmatch(pattern, layer)]
        if layer == "region1" and last == "kernel":
            leaf = leaf.reshape(7, 7, -1, leaf.shape[1]).transpose(3, 2, 0, 1).reshape(leaf.shape[1], -1)  # -> [F, C·H·W]
        elif leaf.ndim > 1:
            leaf = leaf.T if leaf.ndim == 2 else leaf.transpose(3, 2, 0, 1)
        found[theirs if theirs.endswith("scale_weight") else f"{theirs}.{LEAVES[last]}"] = np.ascontiguousarray(leaf)
    return found


@functools.cache
def network(name):
    """(the network, its variables by path: random ones)."""
    model, random = DETECTORS[name](classes=2, **THIN[name]), np.random.default_rng(0)
    shapes = convert.shapes_of(model, SIZES[name])
    return model, {path: random.random(shape, np.float32) for path, shape in shapes.items()}


def started(name, file, new_head=False):
    """The parameters and statistics, by path, with which a detector begins that starts from a file."""
    model, variables = network(name)
    zeros = trees.unflatten({path: np.zeros_like(leaf) for path, leaf in variables.items()})
    params, state = {"detector": zeros.pop("params")}, zeros
    params, state = network_started_from(model, str(file), new_head=new_head)(params, state)
    return jax.tree.map(np.asarray, trees.flatten({"params": params["detector"], **state}))


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("name", THIN)
def test_a_detector_starts_from_torchvisions_weights_of_any_release(name, is_old, tmp_path):
    _, variables = network(name)
    given = as_torch(name, variables)
    if is_old:
        for pattern, text in OLD:
            given = {re.sub(pattern, text, key): leaf for key, leaf in given.items()}
    save_file(given, file := tmp_path / "weights.safetensors")
    found = started(name, file)
    assert found.keys() == variables.keys()
    for path, leaf in variables.items():
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)


def test_a_detector_starts_from_mask_rcnn_from_another_head_and_from_a_backbone_alone(tmp_path, caplog):
    name = "faster_rcnn_resnet50"
    _, variables = network(name)
    given = as_torch(name, variables)
    given |= {"roi_heads.mask_head.0.0.weight": np.ones((4, 4, 3, 3), np.float32)}
    given |= {"roi_heads.box_predictor.cls_score.weight": np.ones((91, 6), np.float32)}
    save_file(given, file := tmp_path / "maskrcnn_resnet50_fpn_coco-bf2d0c1e.safetensors")
    with caplog.at_level(logging.WARNING, logger="cnnlab"):
        found = started(name, file, new_head=True)
    assert all(np.array_equal(found[path], leaf) == ("params/output/" not in path) for path, leaf in variables.items())
    assert "adds nothing to the variance in its norms" in caplog.text and "--model.backbone.norm.epsilon=1e-12" in caplog.text
    body = {key.removeprefix("backbone.body."): leaf for key, leaf in given.items() if key.startswith("backbone.body.")}
    save_file(body, file := tmp_path / "resnet.safetensors")
    found = started(name, file)
    assert all(np.array_equal(found[path], leaf) == ("/backbone/" in path) for path, leaf in variables.items())


def test_default_boxes_that_are_not_torchvisions_are_said(tmp_path):
    model, variables = DETECTORS["ssd300"](classes=2, width=0.02), network("ssd300")[1]
    shapes = {path: leaf.shape for path, leaf in variables.items()}
    _, report = convert.convert(as_torch("ssd300", variables), model, shapes)
    assert any("--model.sides=torchvision" in line for line in report.caveats)
