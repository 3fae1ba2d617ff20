"""Names in keras.applications, for the families whose networks agree: VGG, ResNet v1, DenseNet, MobileNet, Inception.

Kernels have the same layout. ResNetV2 is another network (it shrinks the image in the last block of a stage, and the stem's
pooling pads negative numbers with zeros) and has no scheme.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from cnnlab.interop.families import inception, mobilenet, vgg
from cnnlab.interop.scheme import RELU, Form, Leaves, Scheme, Unseen, activation, always, by_rules, epsilon
from cnnlab.models import inception_resnet_v2, inception_v3
from cnnlab.models.densenet import DenseNet
from cnnlab.models.efficientnet import EfficientNet
from cnnlab.models.inception_blocks import Convolution, Fork, Steps
from cnnlab.models.inception_resnet_v2 import InceptionResNetV2
from cnnlab.models.inception_v3 import InceptionV3
from cnnlab.models.mobilenet import MobileNetV1, MobileNetV2
from cnnlab.models.resnet import ResNet
from cnnlab.models.vgg import VGG

AVERAGES = "keras leaves the padding out of an average, so borders differ"
PADS_BELOW = "pads a convolution with stride 2 below and to the right alone"
PADDING = f"keras {PADS_BELOW}, so borders differ"
"""The difference that remains where no knob makes the networks equal."""


def prepared(leaves: Leaves) -> tuple[Leaves, dict[str, str]]:
    """Merges a bias before a norm into the norm's mean, and gives a norm without a scale one of ones.

    norm((x + bias) - mean) = norm(x - (mean - bias)), in training too, where the mean of the batch has the bias in it.
    """
    leaves, notes = dict(leaves), {}
    for name in list(leaves):
        layer, _, last = name.rpartition(".")
        mean = f"{re.sub('conv$', 'bn', layer)}.moving_mean"
        if last == "bias" and layer.endswith("conv") and mean in leaves:
            leaves[mean] = leaves[mean].astype(np.float64) - leaves.pop(name)  # rounded once, when it is taken
            notes[mean] = f"less {name}"
        elif last == "moving_mean" and f"{layer}.gamma" not in leaves:
            leaves[f"{layer}.gamma"] = np.ones_like(leaves[name])
            notes[f"{layer}.gamma"] = "ones: the norm has no scale there"
    return leaves, notes


_VGG = by_rules(
    (r"^block(\d+)_conv(\d+)$", r"conv\1_\2"),
    (r"^fc1$", "fc6"),
    (r"^fc2$", "fc7"),
    (r"^predictions$", "output"),
)


def _staged(name: str, layer: str) -> str:
    """Renames `conv2_block1` to `stage1_block1`: keras counts the stem as the first stage."""
    return re.sub(r"^conv(\d+)_block(\d+)_", lambda found: f"stage{int(found[1]) - 1}_{layer}{found[2]}/", name)


_STEM = by_rules((r"^conv1_conv$", "stem/conv"), (r"^conv1_bn$", "stem/norm"), (r"^predictions$", "output"))

_RESNET_PARTS = by_rules(
    (r"/0_conv$", "/shortcut/conv"),
    (r"/0_bn$", "/shortcut/norm"),
    (r"/(\d)_conv$", r"/conv\1"),
    (r"/(\d)_bn$", r"/norm\1"),
)


def _resnet(name: str, model: ResNet) -> str | None:
    """Renames `conv3_block1_0_bn` to `stage2_block1/shortcut/norm`."""
    return _RESNET_PARTS(_STEM(_staged(name, "block"), model) or name, model)


def _densenet(name: str, model: DenseNet) -> str | None:
    """Renames `conv2_block1_0_bn` to `stage1_layer1/norm1`: norms precede their convolutions, and keras counts from 0."""
    name = re.sub(r"^pool(\d+)_(conv|bn)$", lambda found: f"transition{int(found[1]) - 1}/{found[2]}1", name)
    name = re.sub(r"/(\d)_bn$", lambda found: f"/norm{int(found[1]) + 1}", _staged(name, "layer"))
    return _DENSENET_PARTS(_STEM(name, model) or name, model)


_DENSENET_PARTS = by_rules((r"/(\d)_conv$", r"/conv\1"), (r"/bn1$", "/norm1"), (r"^bn$", "norm"))


def _blocks(depths: tuple[int, ...]) -> list[str]:
    """Returns our names of all blocks, in order."""
    return [f"stage{stage}_block{number}" for stage, depth in enumerate(depths, 1) for number in range(1, depth + 1)]


_MOBILENET_ENDS = by_rules((r"^conv1$", "stem/conv"), (r"^conv1_bn$", "stem/norm"), (r"^conv_preds$", "output"))


def _mobilenet_v1(name: str, model: MobileNetV1) -> str | None:
    """Renames `conv_dw_2_bn` to `stage2_block1/depthwise/norm`: keras numbers blocks over all stages."""
    found, blocks = re.fullmatch(r"conv_(dw|pw)_(\d+)(_bn)?", name), _blocks(model.depths)
    if not found or not 1 <= int(found[2]) <= len(blocks):
        return _MOBILENET_ENDS(name, model)
    part = {"dw": "depthwise", "pw": "pointwise"}[found[1]]
    return f"{blocks[int(found[2]) - 1]}/{part}/{'norm' if found[3] else 'conv'}"


_MOBILENET_V2_ENDS = by_rules(
    (r"^Conv1$", "stem/conv"),
    (r"^bn_Conv1$", "stem/norm"),
    (r"^Conv_1$", "head/conv"),
    (r"^Conv_1_bn$", "head/norm"),
    (r"^predictions$", "output"),
)


def _mobilenet_v2(name: str, model: MobileNetV2) -> str | None:
    """Renames `block_1_expand_BN` to `stage2_block1/expand/norm`; the very first block is `expanded_conv`."""
    name = re.sub(r"^expanded_conv_", "block_0_", name)
    found, blocks = re.fullmatch(r"block_(\d+)_(\w+?)(_BN)?", name), _blocks(tuple(row.depth for row in model.stages()))
    if not found or int(found[1]) >= len(blocks):
        return _MOBILENET_V2_ENDS(name, model)
    return f"{blocks[int(found[1])]}/{found[2]}/{'norm' if found[3] else 'conv'}"


def _efficientnet(name: str, model: EfficientNet) -> str | None:
    """Renames `block2a_expand_bn` to `stage2_block1/expand/norm`."""
    name = re.sub(r"^block(\d+)([a-z])_", lambda found: f"stage{found[1]}_block{ord(found[2]) - ord('a') + 1}/", name)
    return _EFFICIENTNET_PARTS(name, model)


_EFFICIENTNET_PARTS = by_rules(
    (r"/dwconv$", "/depthwise_conv"),
    (r"/bn$", "/depthwise_bn"),
    (r"/se_reduce$", "/se/squeeze"),
    (r"/se_expand$", "/se/excite"),
    (r"^top_", "head_"),
    (r"_conv$", "/conv"),
    (r"_bn$", "/norm"),
    (r"^predictions$", "output"),
    ignored=("normalization",),
)


def _places(module: str, branches: tuple[Steps, ...]) -> Iterator[str]:
    """Yields our names of the convolutions of a module, branch by branch."""
    for branch, steps in enumerate(branches, start=1):
        number = 0
        for step in steps:
            if isinstance(step, Convolution):
                number += 1
                yield f"{module}/branch{branch}/conv{number}"
            elif isinstance(step, Fork):
                yield from (f"{module}/branch{branch}/conv1x3", f"{module}/branch{branch}/conv3x1")


def _order_v3(model: InceptionV3) -> Iterator[str]:
    """Yields our names of the convolutions of Inception-v3, in the order in which keras creates them."""
    yield from (f"stem/conv{number}" for number in range(1, 6))
    for module, branches in inception_v3.modules(model.depths):
        yield from _places(module, branches)


def _order_resnet(model: InceptionResNetV2) -> Iterator[str]:
    """Yields those of Inception-ResNet-v2, without the last of each block, which has a name in keras."""
    yield from (f"stem/conv{number}" for number in range(1, 6))
    yield from _places("entry", inception_resnet_v2.ENTRY)
    for (letter, branches, reduction), depth in zip(inception_resnet_v2.GRIDS, model.depths, strict=True):
        for number in range(1, depth + 1):
            yield from _places(f"inception_{letter}{number}", branches)
        yield from _places(f"reduction_{letter}", reduction or ())


def _numbered(name: str, places: Iterator[str]) -> str:
    """Renames `conv2d_7` and `batch_normalization_7` to number 7 of the given places."""
    found, known = re.fullmatch(r"(conv2d|batch_normalization)_(\d+)", name), list(places)
    if not found or int(found[2]) >= len(known):
        return "output" if name == "predictions" else name
    return f"{known[int(found[2])]}/{'conv' if found[1] == 'conv2d' else 'norm'}"


def _inception_v3(name: str, model: InceptionV3) -> str:
    return _numbered(name, _order_v3(model))


def _inception_resnet(name: str, model: InceptionResNetV2) -> str | None:
    """Renames `block35_1_conv` to `inception_a1/project`; the very last block is `block8_10`."""
    return _BLOCKS(_numbered(name, _order_resnet(model)), model)


_BLOCKS = by_rules(
    (r"^block35_(\d+)_conv$", r"inception_a\1/project"),
    (r"^block17_(\d+)_conv$", r"inception_b\1/project"),
    (r"^block8_(\d+)_conv$", r"inception_c\1/project"),
    (r"^conv_7b$", "final/conv"),
    (r"^conv_7b_bn$", "final/norm"),
)


CAFFE = "images in [0, 255] with the channels in the order BGR, less 103.939, 116.779 and 123.68, and not divided"
TF = "images in [−1, 1]"
TORCH = "images in [0, 1], less ImageNet's means (0.485, 0.456, 0.406), over its deviations (0.229, 0.224, 0.225)"
RAW = "images in [0, 255]: keras normalises them inside its network"
"""What keras.applications calls the modes `caffe`, `tf` and `torch` of `preprocess_input`, and networks with their own."""

_STRIDE = Unseen(
    "stride_at",
    (Form(".*", "keras' ResNet50", "shrinks the image in the first 1x1 of a block (v1)", "first"),),
    lambda model: bool(getattr(model, "block", "") == "bottleneck"),
)


def _scheme(rename: Any, inputs: str, *unseen: Unseen, caveat: str = "") -> tuple[Scheme, ...]:
    return (Scheme("keras", rename, prepare=prepared, unseen=unseen, caveat=caveat, inputs=inputs),)


SCHEMES: Mapping[type[nn.Module], tuple[Scheme, ...]] = {
    VGG: _scheme(_VGG, CAFFE, *vgg.UNSEEN),
    ResNet: _scheme(_resnet, CAFFE, _STRIDE, RELU, epsilon(1.001e-5)),
    DenseNet: _scheme(_densenet, TORCH, RELU, epsilon(1.001e-5)),
    MobileNetV1: _scheme(_mobilenet_v1, TF, activation("relu6"), epsilon(1e-3), caveat=PADDING),
    MobileNetV2: _scheme(_mobilenet_v2, TF, *mobilenet.UNSEEN, epsilon(1e-3), caveat=PADDING),
    EfficientNet: _scheme(_efficientnet, RAW, activation("silu"), epsilon(1e-3), always("padding", "same", PADS_BELOW)),
    InceptionV3: _scheme(_inception_v3, TF, *inception.UNSEEN, caveat=AVERAGES),
    InceptionResNetV2: _scheme(_inception_resnet, TF, *inception.UNSEEN, inception.SCALES),
}
"""Schemes by class of model. Caveats and the expected images are logged when weights are imported."""
