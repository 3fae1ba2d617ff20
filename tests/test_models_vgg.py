"""VGG A to E: the paper's tables 1 and 2, torchvision's numbers with batch norm, and the sizes that work."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import inspect
from cnnlab.errors import UsageError
from cnnlab.models import layers, norms, vgg
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from tests import jitted

KEY = jax.random.key(0)
TINY = {"classes": 4, "width": 1 / 32}


def rows_of(name, size=224):
    return [row for row in inspect.layers(getattr(vgg, name)(classes=1000), (size, size, 3)) if row.params]


def started(network, size=32):
    images = jax.random.normal(KEY, (2, size, size, 3))
    return jax.jit(functools.partial(network.init, train=False))(KEY, images), images


@pytest.mark.parametrize(
    ("name", "weight_layers", "millions"),
    [
        ("vgg11_a", 11, 133),
        ("vgg11_a_lrn", 11, 133),
        ("vgg13_b", 13, 133),
        ("vgg16_c", 16, 134),
        ("vgg16_d", 16, 138),
        ("vgg19_e", 19, 144),
    ],
)
def test_networks_are_those_of_the_papers_tables(name, weight_layers, millions):
    rows = rows_of(name)
    assert len(rows) == weight_layers
    assert round(sum(row.params for row in rows) / 1e6) == millions


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("vgg11_a_bn", 132_868_840),
        ("vgg13_b_bn", 133_053_736),
        ("vgg16_d_bn", 138_365_992),
        ("vgg19_e_bn", 143_678_248),
    ],
)
def test_networks_with_batch_norm_have_as_many_parameters_as_torchvisions(name, params):
    assert sum(row.params for row in rows_of(name)) == params


def test_convolutions_of_network_d_have_the_papers_channels_on_the_papers_sides():
    outputs = [row.output for row in rows_of("vgg16_d")]
    stages = [(224, 64)] * 2 + [(112, 128)] * 2 + [(56, 256)] * 3 + [(28, 512)] * 3 + [(14, 512)] * 3
    assert outputs == [*[(side, side, channels) for side, channels in stages], (4096,), (4096,), (1000,)]


def test_network_c_is_d_with_1x1_convolutions_last_in_three_stages():
    c, d = ({row.name: row.params for row in rows_of(name)} for name in ("vgg16_c", "vgg16_d"))
    assert {name for name in c if c[name] != d[name]} == {"conv3_3", "conv4_3", "conv5_3"}
    assert [c[name] for name in ("conv3_3", "conv4_3", "conv5_3")] == [256 * 257, 512 * 513, 512 * 513]


@pytest.mark.slow
def test_a_lrn_normalises_what_conv1_1_gives_and_nothing_else():
    plain, network = vgg.vgg11_a(**TINY), vgg.vgg11_a_lrn(**TINY)
    variables, images = started(plain)
    (_, seen), (_, normalised) = (jitted.apply(model, variables, images, train=False) for model in (plain, network))
    np.testing.assert_array_equal(seen["conv1_1"], normalised["conv1_1"])
    x = np.asarray(seen["conv1_1"], np.float64)  # two channels, so that each sees both
    pooled = jitted.apply(
        layers.MaxPool(2), {}, jnp.asarray(x / (2 + 1e-4 / 5 * (x**2).sum(-1, keepdims=True)) ** 0.75, jnp.float32)
    )
    np.testing.assert_allclose(normalised["stage1"], pooled, rtol=1e-5)


def test_images_of_32_pixels_are_the_smallest_and_the_sliding_head_needs_224():
    for head, smallest in (("dense", 32), ("convolution", 224)):
        network = vgg.vgg16_d(**TINY, head=head)
        inspect.layers(network, (smallest, smallest, 3))
        with pytest.raises(UsageError, match=f"smallest image for this network is {smallest}x{smallest}"):
            inspect.layers(network, (smallest - 1, smallest - 1, 3))


def test_a_map_smaller_than_the_grid_is_repeated_over_it():
    network = vgg.vgg11_a(**TINY)
    variables, images = started(network)
    _, seen = jitted.apply(network, variables, images, train=False)
    one, kernel = seen["stage5"][:, 0, 0], variables["params"]["fc6"]["kernel"]
    summed = kernel.reshape(49, one.shape[-1], -1).sum(0)
    np.testing.assert_allclose(seen["fc6"], jax.nn.relu(one @ summed), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("bias", [True, False])
def test_every_norm_fits_with_and_without_biases_before_it(norm, bias):
    network = vgg.VGG(**TINY, depths=(1, 1, 1, 1, 1), norm=NORMS[norm], bias=bias)
    variables = jax.eval_shape(functools.partial(network.init, train=False), KEY, jnp.ones((1, 32, 32, 3)))
    assert ("bias" in variables["params"]["conv1_1"]) == bias
    assert ("norm1_1" in variables["params"]) == (norm != "none")


@pytest.mark.slow
def test_dropout_falls_on_the_hidden_dense_layers_in_training_alone():
    network = vgg.VGG(classes=0, width=1 / 8, depths=(1, 1, 1, 1, 1))
    variables, images = started(network)
    still, seen = jitted.apply(network, variables, images, train=False)
    np.testing.assert_array_equal(still, seen["fc7"])
    noisy, seen = jitted.apply(network, variables, images, train=True, rngs={"dropout": KEY})
    dropped = np.asarray(noisy == 0) & np.asarray(seen["fc7"] != 0)
    np.testing.assert_allclose(dropped.sum() / np.asarray(seen["fc7"] != 0).sum(), 0.5, atol=0.08)


KNOBS = {
    "depths": (1, 1, 2, 2, 2),
    "pointwise": True,
    "lrn": True,
    "bias": False,
    "hidden": (512, 4096),
    "grid": 6,
    "head": "convolution",
    "activation": jnp.tanh,
    "norm": norms.batch_norm,
    "dropout": 0.1,
    "initializer": init.xavier,
    "width": 1 / 16,
}


@pytest.mark.slow
@pytest.mark.parametrize("knob", KNOBS)
def test_every_knob_of_vgg_changes_the_computation(knob):
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)

    def program(**knobs):
        network = vgg.vgg16_d(**{**TINY, **knobs})
        start = functools.partial(network.init_with_output, train=True)
        return str(jax.make_jaxpr(start)({"params": KEY, "dropout": KEY}, images))

    assert program(**{knob: KNOBS[knob]}) != program()
