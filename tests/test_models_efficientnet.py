"""EfficientNet: sizes of the paper's table, compound scaling, squeeze-and-excitation and stochastic depth."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import inspect
from cnnlab.models import norms
from cnnlab.models.efficientnet import EfficientNet, efficientnet_lite0
from cnnlab.models.inverted_residual import InvertedResidual
from cnnlab.models.layers import Dropout
from cnnlab.models.residual_parts import SqueezeExcitation
from tests import jitted

KEY = jax.random.key(0)


def ones(key, shape, dtype=jnp.float32):
    return jnp.ones(shape, dtype)


def shapes(model, side=224):
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(functools.partial(model.init_with_output, train=False), KEY, images)


@functools.cache
def traced(model):
    """The program of a training step's forward pass, as text."""

    def run(images):
        return model.init_with_output({"params": KEY, "dropout": KEY}, images, train=True)

    return str(jax.make_jaxpr(run)(jnp.zeros((2, 16, 16, 3))))


def test_efficientnet_b0_has_the_sizes_of_table_1():
    (_, seen), variables = shapes(EfficientNet(classes=1000))
    assert (seen["stem"].shape, seen["head"].shape) == ((1, 112, 112, 32), (1, 7, 7, 1280))
    sides, channels = (112, 56, 28, 14, 14, 7, 7), (16, 24, 40, 80, 112, 192, 320)
    expected = [(1, side, side, count) for side, count in zip(sides, channels, strict=True)]
    assert [seen[f"stage{stage}"].shape for stage in range(1, 8)] == expected
    kernels = [variables["params"][f"stage{stage}_block1"]["depthwise"]["conv"]["kernel"].shape[0] for stage in range(1, 8)]
    assert kernels == [3, 3, 5, 3, 5, 5, 3]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "depth", "params"),
    [(1.0, 1.1, 7_794_184), (1.1, 1.2, 9_109_994), (1.2, 1.4, 12_233_232)],
    ids=["b1", "b2", "b3"],
)
def test_width_and_depth_give_the_parameters_of_b1_to_b3(width, depth, params):
    table = inspect.layers(EfficientNet(classes=1000, width=width, depth=depth), (64, 64, 3))
    assert sum(row.params for row in table) == params


def test_lite_scales_neither_its_ends_nor_squeezes_and_clips_at_6():
    rows = efficientnet_lite0(classes=10, depth=1.8).stages()
    assert [row.depth for row in rows] == [1, 4, 4, 6, 6, 8, 1]
    model = efficientnet_lite0(classes=10, width=1.4)
    (_, seen), variables = shapes(model, 32)
    assert (seen["stem"].shape, seen["head"].shape) == ((1, 16, 16, 32), (1, 1, 1, 1280))
    assert seen["stage1"].shape[-1] == 24 and not any("se" in block for block in variables["params"].values())
    assert model.activation(jnp.float32(7)) == 6


def test_same_padding_is_below_and_to_the_right_where_the_stride_is_2():
    x = jnp.ones((1, 4, 4, 2))
    sums = {}
    for padding in ("same", "symmetric"):
        block = InvertedResidual(2, 1, 2, padding=padding, norm=norms.no_norm, activation=lambda x: x, initializer=ones)
        output, _ = jitted.init_with_output(block, KEY, x, train=False)
        sums[padding] = np.asarray(output)[0, :, :, 0]
    # Each output is twice (two channels) the number of taps that lie on the image.
    np.testing.assert_array_equal(sums["same"], 2 * np.array([[9, 6], [6, 4]]))
    np.testing.assert_array_equal(sums["symmetric"], 2 * np.array([[4, 6], [6, 9]]))


def test_the_squeeze_is_a_quarter_of_the_channels_that_enter_a_block():
    _, variables = shapes(EfficientNet(classes=10), 32)
    hidden = [variables["params"][f"stage{stage}_block1"]["se"]["squeeze"]["kernel"].shape for stage in range(1, 8)]
    assert hidden == [(32, 8), (96, 4), (144, 6), (240, 10), (480, 20), (672, 28), (1152, 48)]
    _, variables = shapes(EfficientNet(classes=10, squeeze=0), 32)
    assert not any("se" in block for block in variables["params"].values())


def test_squeeze_and_excitation_weighs_whole_channels_between_0_and_1():
    x = jax.random.normal(KEY, (2, 5, 5, 6))
    y, _ = jitted.init_with_output(SqueezeExcitation(3), KEY, x)
    weights = np.asarray(y / x)
    np.testing.assert_allclose(weights, np.broadcast_to(weights[:, :1, :1], x.shape), rtol=1e-5)
    assert weights.min() > 0 and weights.max() < 1


def test_stochastic_depth_grows_in_proportion_to_the_place_and_may_be_a_tracer():
    found = {}

    def note(call, args, kwargs, context):
        if isinstance(context.module, Dropout) and context.method_name == "__call__":
            found["/".join(context.module.path)] = context.module.rate
        return call(*args, **kwargs)

    def logits(rate):
        model = EfficientNet(classes=3, width=0.1, drop_path=rate, dropout=0.0)
        return model.init_with_output({"params": KEY, "dropout": KEY}, jnp.zeros((2, 8, 8, 3)), train=True)

    with nn.intercept_methods(note):
        jax.eval_shape(lambda: logits(0.32))
    rates = {name: rate for name, rate in found.items() if name.endswith("drop_path")}
    assert rates["stage2_block2/drop_path"] == pytest.approx(0.04)  # the third of 16 blocks
    assert max(rates.values()) == pytest.approx(0.32 * 14 / 16)
    jax.eval_shape(logits, jnp.float32(0.2))


@pytest.mark.slow
def test_drop_path_keeps_or_skips_the_block_of_a_whole_example():
    x = jax.random.normal(KEY, (64, 2, 2, 3))
    block = InvertedResidual(3, drop_path=0.5, norm=norms.no_norm)
    variables = jax.jit(functools.partial(block.init, train=False))(KEY, x)
    apply = functools.partial(block.apply, variables, x)
    branch = np.asarray(apply(train=False) - x)
    trained = np.asarray(apply(train=True, rngs={"dropout": KEY}) - x)
    kept = np.array([np.allclose(one, 2 * whole, atol=1e-5) for one, whole in zip(trained, branch, strict=True)])
    skipped = np.array([not np.any(one) for one in trained])
    assert np.all(kept ^ skipped) and 16 < kept.sum() < 48


def test_the_small_stem_shrinks_the_image_by_8():
    (_, small), _ = shapes(EfficientNet(classes=10, stem="small"), 32)
    (_, large), _ = shapes(EfficientNet(classes=10), 32)
    assert small["stem"].shape[1:3] == (32, 32) and small["head"].shape[1:3] == (4, 4)
    assert large["stem"].shape[1:3] == (16, 16) and large["head"].shape[1:3] == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "knobs",
    [
        {"expansion": 2},
        {"squeeze": 0.5},
        {"depth": 0.5},
        {"drop_path": 0.0},
        {"stem": "small"},
        {"padding": "same"},
        {"scale_ends": False},
        {"norm": norms.no_norm},
        {"activation": jnp.tanh},
        {"dropout": 0.0},
    ],
    ids=lambda knobs: next(iter(knobs)),
)
def test_every_knob_of_efficientnet_changes_the_network(knobs):
    thin = {"classes": 3, "width": 0.2}
    assert traced(EfficientNet(**thin)) != traced(EfficientNet(**{**thin, **knobs}))
