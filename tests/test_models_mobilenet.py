"""MobileNet: sizes of the papers' tables, width multipliers, inverted residuals and their knobs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import inspect
from cnnlab.models import norms
from cnnlab.models.inverted_residual import InvertedResidual, divisible
from cnnlab.models.mobilenet import MobileNetV1, MobileNetV2
from cnnlab.ops import init
from tests import jitted

KEY = jax.random.key(0)


def totals(model, side=224):
    table = inspect.layers(model, (side, side, 3))
    return sum(row.params for row in table), sum(row.macs for row in table)


def taps(model, side):
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    (_, seen), _ = jax.eval_shape(functools.partial(model.init_with_output, train=False), KEY, images)
    return {name: tap.shape[1:] for name, tap in seen.items()}


@functools.cache
def traced(model):
    """The program of a training step's forward pass, as text."""

    def run(images):
        return model.init_with_output({"params": KEY, "dropout": KEY}, images, train=True)

    return str(jax.make_jaxpr(run)(jnp.zeros((2, 16, 16, 3))))


def test_mobilenet_v1_has_the_sizes_of_table_1():
    seen = taps(MobileNetV1(classes=1000), 224)
    assert seen["stem"] == (112, 112, 32)
    stages = [(112, 112, 64), (56, 56, 128), (28, 28, 256), (14, 14, 512), (7, 7, 1024)]
    assert [seen[f"stage{stage}"] for stage in range(1, 6)] == stages
    assert seen["features"] == (1024,)


def test_mobilenet_v2_has_the_sizes_of_table_2():
    seen = taps(MobileNetV2(classes=1000), 224)
    assert (seen["stem"], seen["head"]) == ((112, 112, 32), (7, 7, 1280))
    sides, channels = (112, 56, 28, 14, 14, 7, 7), (16, 24, 32, 64, 96, 160, 320)
    expected = [(side, side, count) for side, count in zip(sides, channels, strict=True)]
    assert [seen[f"stage{stage}"] for stage in range(1, 8)] == expected


@pytest.mark.parametrize(("width", "millions", "macs"), [(1.0, 4.2, 569), (0.75, 2.6, 325), (0.5, 1.3, 149), (0.25, 0.5, 41)])
def test_width_of_mobilenet_v1_gives_table_6(width, millions, macs):
    params, multiplications = totals(MobileNetV1(classes=1000, width=width))
    assert round(params / 1e6, 1) == millions and round(multiplications / 1e6) == macs


def test_the_shallow_mobilenet_v1_is_that_of_table_5():
    params, macs = totals(MobileNetV1(classes=1000, depths=(1, 2, 2, 1, 2)))
    assert round(params / 1e6, 1) == 2.9 and round(macs / 1e6) == 307


@pytest.mark.parametrize(("width", "params"), [(0.35, 1_677_128), (0.75, 2_636_424), (1.4, 6_108_776)])
def test_width_of_mobilenet_v2_gives_the_parameters_of_torchvision(width, params):
    assert totals(MobileNetV2(classes=1000, width=width))[0] == params


def test_widths_are_multiples_of_8_and_lose_less_than_a_tenth():
    assert [divisible(channels, 1.0) for channels in (1, 11, 12, 16, 1280)] == [8, 16, 16, 16, 1280]
    for channels in (16, 24, 32, 64, 96, 160, 320):
        for width in np.linspace(0.3, 2.0, 35):
            assert divisible(channels, width) % 8 == 0 and divisible(channels, width) >= 0.9 * channels * width


@pytest.mark.parametrize("model", [MobileNetV1, MobileNetV2])
def test_the_small_stem_shrinks_the_image_by_8(model):
    small, large = taps(model(classes=10, stem="small"), 32), taps(model(classes=10), 32)
    last = "stage5" if model is MobileNetV1 else "head"
    assert small["stem"][:2] == (32, 32) and small["stage2"][:2] == (32, 32) and small[last][:2] == (4, 4)
    assert large["stem"][:2] == (16, 16) and large[last][:2] == (1, 1)


def test_an_inverted_residual_whose_branch_is_zero_is_the_identity_only_where_shapes_allow():
    x = jax.random.normal(KEY, (2, 6, 6, 8))
    block = functools.partial(InvertedResidual, norm=norms.no_norm, initializer=init.zeros)
    for knobs, passes in (({}, True), ({"shortcut": False}, False), ({"strides": 2}, False), ({"features": 9}, False)):
        y, _ = jitted.init_with_output(block(**{"features": 8, **knobs}), KEY, x, train=False)
        assert np.array_equal(y, x) if passes else not np.any(y), knobs


def test_a_linear_bottleneck_gives_negative_numbers_and_another_does_not():
    x = jax.random.normal(KEY, (2, 6, 6, 8))
    block = functools.partial(InvertedResidual, 8, shortcut=False)
    assert float(jitted.init_with_output(block(), KEY, x, train=False)[0].min()) < 0
    assert float(jitted.init_with_output(block(linear=False), KEY, x, train=False)[0].min()) == 0


def test_depthwise_kernels_see_one_channel():
    shapes = jax.eval_shape(
        functools.partial(MobileNetV1(classes=10).init, train=False), KEY, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    )
    block = shapes["params"]["stage5_block2"]
    assert block["depthwise"]["conv"]["kernel"].shape == (3, 3, 1, 1024)
    assert block["pointwise"]["conv"]["kernel"].shape == (1, 1, 1024, 1024)


@pytest.mark.parametrize(
    "knobs",
    [{"depths": (1, 1)}, {"stem": "small"}, {"norm": norms.no_norm}, {"activation": jnp.tanh}, {"dropout": 0.1}],
    ids=lambda knobs: next(iter(knobs)),
)
def test_every_knob_of_mobilenet_v1_changes_the_network(knobs):
    thin = {"width": 0.1, "depths": (1, 2)}
    assert traced(MobileNetV1(classes=3, **thin)) != traced(MobileNetV1(classes=3, **{**thin, **knobs}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "knobs",
    [
        {"expansion": 2},
        {"depth": 0.5},
        {"shortcut": False},
        {"linear": False},
        {"stem": "small"},
        {"norm": norms.no_norm},
        {"activation": jnp.tanh},
        {"dropout": 0.0},
    ],
    ids=lambda knobs: next(iter(knobs)),
)
def test_every_knob_of_mobilenet_v2_changes_the_network(knobs):
    assert traced(MobileNetV2(classes=3, width=0.1)) != traced(MobileNetV2(classes=3, width=0.1, **knobs))
