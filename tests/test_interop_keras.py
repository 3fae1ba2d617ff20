"""The names of keras.applications: each of our layers has exactly one there, and what has no place here moves exactly."""

from collections.abc import Iterator
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.interop import convert, lookalikes
from cnnlab.interop.families import keras
from cnnlab.interop.scheme import Source
from cnnlab.models import norms
from cnnlab.models.densenet import DenseNet
from cnnlab.models.efficientnet import EfficientNet
from cnnlab.models.inception_resnet_v2 import InceptionResNetV2
from cnnlab.models.inception_v3 import InceptionV3
from cnnlab.models.layers import ConvNorm
from cnnlab.models.mobilenet import MobileNetV1, MobileNetV2
from cnnlab.models.resnet import ResNet
from cnnlab.models.vgg import VGG
from cnnlab.ops.activations import relu6
from tests.stages import slow_but


def vgg() -> Iterator[str]:
    """VGG19's."""
    for stage, depth in enumerate((2, 2, 4, 4, 4), start=1):
        yield from (f"block{stage}_conv{number}" for number in range(1, depth + 1))
    yield from ("fc1", "fc2", "predictions")


def resnet() -> Iterator[str]:
    """ResNet101's; a pair of convolution and norm for each number of a block, 0 being the shortcut."""
    yield from ("conv1_conv", "conv1_bn", "predictions")
    for stage, depth in enumerate((3, 4, 23, 3), start=2):
        for block in range(1, depth + 1):
            for number in range(block > 1, 4):
                yield from (f"conv{stage}_block{block}_{number}_{kind}" for kind in ("conv", "bn"))


def densenet() -> Iterator[str]:
    """DenseNet169's."""
    yield from ("conv1_conv", "conv1_bn", "bn", "predictions")
    for stage, depth in enumerate((6, 12, 32, 32), start=2):
        for block in range(1, depth + 1):
            yield from (f"conv{stage}_block{block}_{part}" for part in ("0_bn", "1_conv", "1_bn", "2_conv"))
        if stage < 5:
            yield from (f"pool{stage}_bn", f"pool{stage}_conv")


def mobilenet_v1() -> Iterator[str]:
    yield from ("conv1", "conv1_bn", "conv_preds")
    for block in range(1, 14):
        yield from (f"conv_{kind}_{block}{last}" for kind in ("dw", "pw") for last in ("", "_bn"))


def mobilenet_v2() -> Iterator[str]:
    yield from ("Conv1", "bn_Conv1", "Conv_1", "Conv_1_bn", "predictions")
    yield from (f"expanded_conv_{part}{last}" for part in ("depthwise", "project") for last in ("", "_BN"))
    for block in range(1, 17):
        yield from (f"block_{block}_{part}{last}" for part in ("expand", "depthwise", "project") for last in ("", "_BN"))


def efficientnet() -> Iterator[str]:
    """EfficientNetB0's."""
    yield from ("stem_conv", "stem_bn", "top_conv", "top_bn", "predictions")
    for stage, depth in enumerate((1, 2, 2, 3, 3, 4, 1), start=1):
        for letter in "abcdefg"[:depth]:
            expands = ("expand_conv", "expand_bn") if stage > 1 else ()
            parts = (*expands, "dwconv", "bn", "se_reduce", "se_expand", "project_conv", "project_bn")
            yield from (f"block{stage}{letter}_{part}" for part in parts)


def inception_v3() -> Iterator[str]:
    yield "predictions"
    yield from (f"{kind}_{number}" for number in range(94) for kind in ("conv2d", "batch_normalization"))


def inception_resnet_v2() -> Iterator[str]:
    yield from ("conv_7b", "conv_7b_bn", "predictions")
    yield from (f"block{size}_{number}_conv" for size, count in ((35, 10), (17, 20), (8, 10)) for number in range(1, count + 1))
    yield from (f"{kind}_{number}" for number in range(203) for kind in ("conv2d", "batch_normalization"))


NETWORKS = {
    "VGG19": (VGG(classes=10, depths=(2, 2, 4, 4, 4)), vgg, 32),
    "ResNet101": (ResNet(classes=10, stages=(3, 4, 23, 3)), resnet, 64),
    "DenseNet169": (DenseNet(classes=10, blocks=(6, 12, 32, 32)), densenet, 64),
    "MobileNet": (MobileNetV1(classes=10), mobilenet_v1, 64),
    "MobileNetV2": (MobileNetV2(classes=10), mobilenet_v2, 64),
    "EfficientNetB0": (EfficientNet(classes=10), efficientnet, 64),
    "InceptionV3": (InceptionV3(classes=10), inception_v3, 139),
    "InceptionResNetV2": (InceptionResNetV2(classes=10), inception_resnet_v2, 139),
}
DEEP = ("DenseNet169", "InceptionV3", "InceptionResNetV2")
"""Networks that take long to trace."""


@pytest.mark.parametrize("case", slow_but(NETWORKS, *(case for case in NETWORKS if case not in DEEP)))
def test_every_layer_of_the_network_has_exactly_one_name_in_keras(case: str):
    model, names, size = NETWORKS[case]
    (scheme,) = keras.SCHEMES[type(model)]
    renamed = [scheme.rename(name, model) for name in names()]
    shapes = convert.shapes_of(model, (size, size, 3))
    ours = {path.partition("/")[2].rpartition("/")[0] for path in shapes}
    assert len(set(renamed)) == len(renamed) and set(renamed) == ours


def test_layers_of_the_inception_networks_are_taken_in_the_order_in_which_keras_makes_them():
    (scheme,) = keras.SCHEMES[InceptionV3]
    model = InceptionV3(classes=10)
    expected = {
        0: "stem/conv1",
        5: "inception_a1/branch1/conv1",
        6: "inception_a1/branch2/conv1",
        11: "inception_a1/branch4/conv1",
        26: "reduction_a/branch1/conv1",
        78: "inception_c1/branch2/conv1x3",
        93: "inception_c2/branch4/conv1",
    }
    assert {number: scheme.rename(f"conv2d_{number}", model) for number in expected} == {
        number: f"{place}/conv" for number, place in expected.items()
    }
    assert scheme.rename("batch_normalization_93", model) == "inception_c2/branch4/conv1/norm"
    assert scheme.rename("conv2d_94", model) == "conv2d_94"


def test_the_normalisation_of_pixels_is_known_to_have_no_place():
    (scheme,) = keras.SCHEMES[EfficientNet]
    assert scheme.rename("normalization", EfficientNet(classes=10)) is None


class Small(nn.Module):
    """A convolution without bias and its norm."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool):
        return ConvNorm(4, 3, norm=norms.batch_norm, activation=jnp.tanh, name="stem")(images, train=train), {}


def test_a_bias_before_a_norm_moves_into_its_mean_and_a_missing_scale_is_one():
    random = np.random.default_rng(0)
    state = {
        "conv1_conv.kernel": random.normal(size=(3, 3, 3, 4)),
        "conv1_conv.bias": random.normal(size=4),
        "conv1_bn.beta": random.normal(size=4),
        "conv1_bn.moving_mean": random.normal(size=4),
        "conv1_bn.moving_variance": random.uniform(1, 2, size=4),
    }
    images = random.normal(size=(2, 5, 5, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(convert.SCHEMES, Small, keras.SCHEMES[ResNet])
        leaves, report = convert.convert(state, Small(), convert.shapes_of(Small(), (5, 5, 3)))
    assert report.reshaped["batch_stats/stem/norm/mean"] == "less conv1_conv.bias"
    assert report.reshaped["params/stem/norm/scale"] == "ones: the norm has no scale there"
    with jax.enable_x64(True):
        ours = Small().apply(convert.unflatten(leaves), images, train=False)[0]
        kernel = jnp.asarray(state["conv1_conv.kernel"])
        theirs = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    theirs = np.asarray(theirs) + state["conv1_conv.bias"] - state["conv1_bn.moving_mean"]
    theirs = theirs / np.sqrt(state["conv1_bn.moving_variance"] + 1e-5) + state["conv1_bn.beta"]
    np.testing.assert_allclose(ours, np.tanh(theirs), atol=1e-12)
    assert "conv1_conv.bias" in state, "what was given stays as it was"


def test_a_bias_that_no_norm_follows_is_not_lost_in_silence():
    leaves, notes = keras.prepared({"conv1_conv.bias": np.ones(4), "fc.bias": np.ones(4)})
    assert set(leaves) == {"conv1_conv.bias", "fc.bias"} and not notes


def test_what_differs_is_said():
    relu, equal = MobileNetV1(classes=3), MobileNetV1(classes=3, activation=relu6, norm=partial(norms.batch_norm, epsilon=1e-3))
    (scheme,) = keras.SCHEMES[MobileNetV1]
    lines = lookalikes.compared(relu, scheme, Source())
    assert any("take --model.activation=relu6" in line for line in lines)
    assert any("take --model.norm.epsilon=0.001" in line for line in lines)
    remaining = lookalikes.compared(equal, scheme, Source())
    assert set(remaining) < set(lines) and "keras pads a convolution with stride 2 below" in remaining[0]
    assert len(remaining) == 2 and "expect images in [−1, 1]" in remaining[1]
