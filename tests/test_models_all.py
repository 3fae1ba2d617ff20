"""Properties of every model outside the zoo (see test_zoo.py), and published numbers of parameters and multiply-adds."""

import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import inspect
from cnnlab.errors import UsageError
from cnnlab.models import MODELS
from cnnlab.models.convnet import ConvNet
from cnnlab.models.mlp import MLP
from cnnlab.models.norms import NORMS
from tests import jitted
from tests.stages import slow_but
from tests.zoo import ZOO

KEY = jax.random.key(0)
SIZE = {
    "linear": 8,
    "mlp": 8,
    "lenet_300_100": 28,
    "lenet5": 16,
    "lenet5_1998": 32,
    "lenet5_20_50_500": 16,
    "rnn": 8,
    "lstm": 8,
    "gru": 8,
    "convnet": 8,
    "airbench94": 9,
}
PUBLISHED = [  # shared by papers and independent implementations; MACs of convolutions and dense layers for one image
    ("lenet5_1998", {}, (32, 32, 1), 60_000, 325_680),
    ("lenet5_1998", {}, (28, 28, 1), 60_000, 325_680),
    ("lenet5", {}, (32, 32, 1), 61_706, 416_520),
    ("lenet5", {}, (28, 28, 1), 61_706, 416_520),
    ("lenet5_20_50_500", {}, (28, 28, 1), 431_080, 2_293_000),
    ("lenet_300_100", {}, (28, 28, 1), 266_610, 266_200),
    ("mlp", {"widths": (1024,) * 3}, (28, 28, 1), 2_913_290, 2_910_208),
    ("mlp", {"widths": (800, 800)}, (28, 28, 1), 1_276_810, 1_275_200),
    ("mlp", {"widths": (1000, 1000)}, (28, 28, 1), 1_796_010, 1_794_000),
    ("mlp", {"widths": (100,) * 3}, (28, 28, 1), 99_710, 99_400),
    # Jordan's README has 0.29 PFLOP for training and evaluation: 200 steps of 2000 images, 6 FLOP each, are 0.284.
    ("airbench94", {}, (32, 32, 3), 1_972_792, 118_147_360),
    # Those of torch.nn less its second vector of biases, which the GRU needs for its content alone; 784 steps.
    ("rnn", {"widths": (100,), "read": "pixels"}, (28, 28, 1), 11_310 - 100, 7_919_400),
    ("lstm", {"widths": (100,), "read": "pixels"}, (28, 28, 1), 42_210 - 400, 31_674_600),
    ("gru", {"widths": (100,), "read": "pixels"}, (28, 28, 1), 31_910 - 200, 23_756_200),
    ("linear", {}, (28, 28, 1), 7_850, 7_840),
    ("linear", {"bias": False}, (32, 32, 3), 30_720, 30_720),
]


@functools.cache
def built(name):
    """(model, variables, images) with weights that are random whatever the model's own initialiser."""
    model = MODELS[name](classes=10)
    images = jax.random.normal(KEY, (4, SIZE[name], SIZE[name], 1))

    @jax.jit
    def start():
        variables = model.init(KEY, images, train=False)
        leaves, structure = jax.tree.flatten(variables["params"])
        noise = [leaf + 0.05 * jax.random.normal(jax.random.fold_in(KEY, i), leaf.shape) for i, leaf in enumerate(leaves)]
        return {**variables, "params": jax.tree.unflatten(structure, noise)}

    return model, start(), images


def test_every_model_is_tested():
    assert set(SIZE) | set(ZOO) == set(MODELS)


@pytest.mark.parametrize(("name", "knobs", "shape", "params", "macs"), PUBLISHED)
def test_model_has_the_published_parameters_and_macs(name, knobs, shape, params, macs):
    total = inspect.as_json(inspect.layers(MODELS[name](classes=10, **knobs), shape))["total"]
    assert total == {"params": params, "macs": macs}


@pytest.mark.parametrize("name", slow_but(SIZE, "linear", "mlp"))  # the others take long uncompiled
def test_model_gives_logits_and_named_intermediates_compiled_as_eager(name):
    model, variables, images = built(name)
    logits, seen = jitted.apply_uncompiled(model, variables, images, train=False)
    compiled, _ = jax.jit(functools.partial(model.apply, train=False))(variables, images)
    assert logits.shape == (4, 10) and logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, compiled, atol=1e-4)
    np.testing.assert_array_equal(seen["output"], logits)


@pytest.mark.parametrize("name", slow_but(SIZE, "mlp", "lenet5", "convnet"))
def test_model_judges_an_image_alone_as_in_company(name):
    model, variables, images = built(name)
    apply = jax.jit(functools.partial(model.apply, train=False))
    together, _ = apply(variables, images)
    np.testing.assert_allclose(apply(variables, images[2:3])[0], together[2:3], atol=1e-4)


@pytest.mark.parametrize("name", slow_but(SIZE, "mlp", "lenet5", "convnet"))
def test_every_parameter_gets_a_finite_gradient(name):
    model, variables, images = built(name)
    state = {key: value for key, value in variables.items() if key != "params"}

    def loss(params):
        (logits, _), _ = model.apply({"params": params, **state}, images, train=True, mutable=sorted(state))
        return jnp.sum(jnp.sin(logits))  # bounded slope, and no symmetry that would cancel

    for path, leaf in jax.tree.leaves_with_path(jax.jit(jax.grad(loss))(variables["params"])):
        assert bool(jnp.all(jnp.isfinite(leaf))) and bool(jnp.any(leaf != 0)), jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", slow_but(SIZE, "mlp", "lenet5"))
def test_model_in_bf16_gives_bf16_close_to_f32(name):
    model, variables, images = built(name)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables["params"])
    apply = jax.jit(functools.partial(model.apply, train=False))
    exact, _ = apply(variables, images)
    rough, _ = apply({**variables, "params": params}, images.astype(jnp.bfloat16))
    np.testing.assert_allclose(rough.astype(jnp.float32), exact, atol=0.05 * float(jnp.abs(exact).max()))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("model", [MLP, ConvNet, MODELS["lenet5"]])
def test_norms_fit_the_models(model, norm):
    network = model(classes=3, norm=NORMS[norm])
    images = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    if norm == "instance" and model is not ConvNet:
        with pytest.raises(UsageError, match="has none"):
            jax.eval_shape(functools.partial(network.init, train=False), KEY, images)
    else:
        jax.eval_shape(functools.partial(network.init, train=False), KEY, images)


@pytest.mark.parametrize("model", slow_but([MLP, ConvNet, MODELS["lenet5"], MODELS["lenet5_20_50_500"]], MLP))
def test_dropout_rate_of_a_model_may_be_a_tracer(model):
    images = jnp.ones((2, 16, 16, 1))
    variables = jitted.init(model(classes=3), KEY, images, train=False)

    def logits(rate):
        network = model(classes=3, dropout=rate)
        return network.apply(variables, images, train=True, rngs={"dropout": KEY}, mutable=["batch_stats"])[0][0]

    traced, given, none = jax.jit(logits)(0.5), jax.jit(lambda: logits(0.5))(), jax.jit(lambda: logits(0.0))()
    np.testing.assert_allclose(traced, given, atol=1e-5)
    assert not np.allclose(given, none)


def test_convnet_fits_8_to_32_pixels_and_names_the_layer_that_does_not():
    for size, channels in ((4, 1), (8, 1), (28, 1), (32, 3)):
        inspect.layers(ConvNet(classes=10), (size, size, channels))
    with pytest.raises(UsageError, match=r"image of 3x3 is too small: the pooling before stage3 .*\n.*smallest .* is 4x4"):
        inspect.layers(ConvNet(classes=10), (3, 3, 1))


def test_convnet_depth_and_widths_count():
    shapes = [row.output for row in inspect.layers(ConvNet(classes=5, widths=(4, 8), depth=2), (8, 8, 1)) if row.type == "Conv"]
    assert shapes == [(8, 8, 4), (8, 8, 4), (4, 4, 8), (4, 4, 8)]


def test_separable_convnet_costs_a_ninth_and_one_in_the_output_channels_of_each_full_layer():
    given = {"classes": 5, "widths": (4, 6), "depth": 2}
    full, separable = (
        {row.name: row.macs for row in inspect.layers(ConvNet(**given, convolution=kind), (8, 8, 3))}
        for kind in ("full", "separable")
    )
    assert separable["stage1_conv1"] == full["stage1_conv1"] == 8 * 8 * 27 * 4 and "stage1_depthwise1" not in separable
    for stage, number, channels in ((1, 2, 4), (2, 1, 6), (2, 2, 6)):
        both = separable[f"stage{stage}_depthwise{number}"] + separable[f"stage{stage}_conv{number}"]
        ratio = Fraction(both, full[f"stage{stage}_conv{number}"])
        assert ratio == Fraction(1, channels) + Fraction(1, 9)
