"""AlexNet and ZFNet: every layer of the authors' files, towers that do not see one another, and the geometry of the papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import inspect
from cnnlab.errors import UsageError
from cnnlab.models import layers, norms
from cnnlab.models.alexnet import alexnet, alexnet_two_tower, alexnet_ungrouped
from cnnlab.models.zfnet import ZFNet
from cnnlab.ops import init
from cnnlab.ops.local_response_norm import local_response_normalization
from tests import jitted

KEY = jax.random.key(0)
SMALL = {"classes": 4, "width": 1 / 32, "stem": "small"}


def weights(model, size):
    """{layer: (output shape, parameters)} of the layers with weights."""
    rows = inspect.layers(model(classes=1000), (size, size, 3))
    return {row.name: (row.output, row.params) for row in rows if row.params}


def started(network, size=32):
    images = jax.random.normal(KEY, (2, size, size, 3))
    return jax.jit(functools.partial(network.init, train=False))(KEY, images), images


def test_two_towers_are_those_of_the_authors_file_layer_by_layer():
    assert weights(alexnet_two_tower, 227) == {  # BVLC/caffe, models/bvlc_alexnet/deploy.prototxt
        "conv1": ((55, 55, 96), 34_944),
        "conv2": ((27, 27, 256), 307_456),
        "conv3": ((13, 13, 384), 885_120),
        "conv4": ((13, 13, 384), 663_936),
        "conv5": ((13, 13, 256), 442_624),
        "fc6": ((4096,), 37_752_832),
        "fc7": ((4096,), 16_781_312),
        "output": ((1000,), 4_097_000),
    }


def test_two_towers_have_the_papers_numbers_of_neurons():
    counts = [int(np.prod(shape)) for shape, _ in weights(alexnet_two_tower, 227).values()]
    # Figure 2 gives the first layer 253,440 neurons, but also kernels of 96 x 55 x 55, which make 290,400.
    assert counts == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]


@pytest.mark.parametrize("plain", [False, True])
def test_plain_pooling_gives_maps_of_the_same_size_as_overlapping_pooling(plain):
    rows = inspect.layers(alexnet_two_tower(classes=10, overlapping=not plain), (227, 227, 3))
    assert [row.output[0] for row in rows if row.type == "MaxPool"] == [27, 13, 6]  # section 3.4


@pytest.mark.slow
def test_a_tower_sees_the_other_in_conv3_and_in_the_dense_layers_alone():
    network = alexnet_two_tower(**SMALL, lrn=False)
    variables, images = started(network)

    def tapped(name):
        """Gradient of one tower's half of a layer by conv1's kernel, for each of the two towers there."""

        def half(params):
            _, seen = network.apply({"params": params}, images, train=False)
            return jnp.sum(seen[name][..., : seen[name].shape[-1] // 2])

        kernel = jax.jit(jax.grad(half))(variables["params"])["conv1"]["kernel"]
        own, other = jnp.split(jnp.abs(kernel), 2, axis=-1)
        return float(own.max()) > 0, float(other.max()) > 0

    assert tapped("conv2") == (True, False)
    assert tapped("conv3") == tapped("fc6") == (True, True)


def test_responses_are_normalised_after_conv1_and_conv2_before_the_pooling():
    network = alexnet_two_tower(**SMALL)
    variables, images = started(network)
    _, seen = jitted.apply(network, variables, images, train=False)
    for number in (1, 2):
        x = np.asarray(seen[f"conv{number}"], np.float64)
        padded = np.pad(x**2, [(0, 0)] * 3 + [(2, 2)])
        total = sum(padded[..., shift : shift + x.shape[-1]] for shift in range(5))
        x = jnp.asarray(x / (2 + 1e-4 / 5 * total) ** 0.75, jnp.float32)
        np.testing.assert_allclose(seen[f"pool{number}"], jitted.apply(layers.MaxPool(3, 2), {}, x), rtol=1e-5)


def test_networks_accept_the_smallest_image_that_they_name():
    for model, smallest in ((alexnet, 63), (alexnet_two_tower, 67), (functools.partial(alexnet, stem="small"), 15)):
        inspect.layers(model(classes=3), (smallest, smallest, 3))
        with pytest.raises(UsageError, match=f"smallest image for this network is {smallest}x{smallest}"):
            inspect.layers(model(classes=3), (smallest - 1, smallest - 1, 3))


def test_convolution_head_needs_the_published_size():
    with pytest.raises(UsageError, match=r"layer fc6 needs at least 6x6 .*\n.*network is 227x227"):
        inspect.layers(alexnet_two_tower(classes=3, head="convolution"), (226, 226, 3))


@pytest.mark.parametrize("model", [alexnet, alexnet_two_tower, alexnet_ungrouped, ZFNet])
def test_small_stem_keeps_32_pixels_through_conv1(model):
    rows = {row.name: row for row in inspect.layers(model(classes=10, stem="small"), (32, 32, 3))}
    assert rows["conv1"].output[:2] == (32, 32) and rows["conv5"].output[0] >= 7
    assert rows["output"].output == (10,)


@pytest.mark.parametrize("model", [alexnet, alexnet_two_tower, ZFNet])
def test_no_classes_give_the_features(model):
    network = model(**{**SMALL, "classes": 0})
    variables, images = started(network)
    output, seen = jitted.apply(network, variables, images, train=False)
    assert "output" not in variables["params"] and output.shape == (2, 128)
    np.testing.assert_array_equal(output, seen["fc7"])


@pytest.mark.slow
def test_paper_initialisation_is_an_option():
    variables, _ = started(alexnet(classes=4, width=1 / 4, stem="small", initializer=init.normal))
    deviations = {name: float(layer["kernel"].std()) for name, layer in variables["params"].items()}
    assert set(deviations) == {"conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "output"}
    np.testing.assert_allclose(list(deviations.values()), 0.01, rtol=0.05)


def test_zfnet_has_the_sides_of_its_figure_3():
    rows = {row.name: row.output[0] for row in inspect.layers(ZFNet(classes=1000), (224, 224, 3)) if len(row.output) == 3}
    assert rows == {"conv1": 110, "pool1": 55, "conv2": 26, "pool2": 13, "conv3": 13, "conv4": 13, "conv5": 13, "pool5": 6}
    assert {name: count for name, (_, count) in weights(ZFNet, 224).items()} == {
        "conv1": 7 * 7 * 3 * 96 + 96,
        "conv2": 5 * 5 * 96 * 256 + 256,
        "conv3": 9 * 256 * 384 + 384,
        "conv4": 9 * 384 * 384 + 384,
        "conv5": 9 * 384 * 256 + 256,
        "fc6": 6 * 6 * 256 * 4096 + 4096,
        "fc7": 4096 * 4096 + 4096,
        "output": 4096 * 1000 + 1000,
    }


@pytest.mark.slow
def test_zfnet_normalises_after_the_pooling_by_default():
    network, alone = ZFNet(**SMALL), ZFNet(**SMALL, lrn=False)
    variables, images = started(network)
    images = 100 * images  # so that the neighbours' squares count beside k
    _, seen = jitted.apply(network, variables, images, train=False)
    _, pooled = jitted.apply(alone, variables, images, train=False)
    expected = jax.jit(local_response_normalization)(pooled["pool1"])
    np.testing.assert_allclose(seen["pool1"], expected, rtol=1e-5)
    _, first = jitted.apply(ZFNet(**SMALL, lrn_first=True), variables, images, train=False)
    assert not np.array_equal(first["pool1"], seen["pool1"])


KNOBS = {
    "channels": (48, 192, 384, 256, 256),
    "groups": 2,
    "kernels": (5, 3),
    "strides": (1, 1),
    "paddings": (3, 3),
    "lrn": True,
    "overlapping": False,
    "ceil": True,
    "hidden": (512, 4096),
    "head": "convolution",
    "activation": jnp.tanh,
    "norm": norms.batch_norm,
    "dropout": 0.1,
    "initializer": init.xavier,
    "width": 1 / 16,
    "stem": "small",
}


@pytest.mark.parametrize("knob", KNOBS)
def test_every_knob_of_alexnet_changes_the_computation(knob):
    images = jax.ShapeDtypeStruct((1, 230, 230, 3), jnp.float32)

    def program(**knobs):
        network = alexnet(**{"classes": 3, "width": 1 / 8, **knobs})
        start = functools.partial(network.init_with_output, train=True)
        return str(jax.make_jaxpr(start)({"params": KEY, "dropout": KEY}, images))

    assert program(**{knob: KNOBS[knob]}) != program()
