"""SqueezeNet: the paper's table 1 layer by layer, fifty times fewer parameters than AlexNet, and the bypass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import inspect
from cnnlab.models import layers, norms
from cnnlab.models.alexnet import alexnet_two_tower
from cnnlab.models.norms import NORMS
from cnnlab.models.squeezenet import Fire, squeezenet1_0, squeezenet1_1
from cnnlab.ops import init
from tests import jitted

KEY = jax.random.key(0)
SMALL = {"classes": 4, "width": 1 / 8, "stem": "small"}


def total(model, size, kind):
    return sum(getattr(row, kind) for row in inspect.layers(model(classes=1000), (size, size, 3)))


@functools.cache
def started():
    """(variables, images) of the small network of 1.0."""
    images = jax.random.normal(KEY, (2, 32, 32, 3))
    return jax.jit(functools.partial(squeezenet1_0(**SMALL).init, train=False))(KEY, images), images


def shapes(network):
    return jax.tree.map(jnp.shape, jax.eval_shape(functools.partial(network.init, train=False), KEY, jnp.ones((2, 32, 32, 3))))


def test_parameters_of_every_module_are_those_of_table_1():
    counts: dict[str, int] = {}
    for row in inspect.layers(squeezenet1_0(classes=1000), (224, 224, 3)):
        module = row.name.split("/")[0]
        counts[module] = counts.get(module, 0) + row.params
    assert {name: count for name, count in counts.items() if count} == {
        "conv1": 14_208,
        "fire2": 11_920,
        "fire3": 12_432,
        "fire4": 45_344,
        "fire5": 49_440,
        "fire6": 104_880,
        "fire7": 111_024,
        "fire8": 188_992,
        "fire9": 197_184,
        "output": 513_000,
    }


def test_maps_have_the_sides_of_table_1_at_its_227_pixels():
    rows = {row.name: row.output[0] for row in inspect.layers(squeezenet1_0(classes=1000), (227, 227, 3))}
    names = ("conv1/conv", "pool2", "pool5", "pool9", "output")
    assert [rows[name] for name in names] == [111, 55, 27, 13, 13]


def test_alexnet_has_fifty_times_as_many_parameters_and_1_1_computes_2_4_times_less():
    np.testing.assert_allclose(total(alexnet_two_tower, 227, "params") / total(squeezenet1_0, 227, "params"), 50, rtol=0.03)
    ratio = total(squeezenet1_0, 224, "macs") / total(squeezenet1_1, 224, "macs")
    np.testing.assert_allclose(ratio, 2.4, atol=0.1)  # the authors' words for 1.1
    assert total(squeezenet1_1, 227, "params") < total(squeezenet1_0, 227, "params")


def test_bypass_adds_the_input_where_the_channels_agree():
    module = Fire(2, 4, bypass=True, norm=norms.no_norm, activation=jax.nn.relu, initializer=init.zeros)
    for channels, kept in ((8, 1.0), (6, 0.0)):
        x = jax.random.normal(KEY, (1, 5, 5, channels))
        y, _ = jitted.init_with_output(module, KEY, x, train=False)
        assert y.shape == (1, 5, 5, 8)
        np.testing.assert_array_equal(y, kept * x if kept else jnp.zeros_like(y))


@pytest.mark.slow
def test_bypass_goes_round_every_second_module_and_costs_nothing():
    bypassed = squeezenet1_0(**SMALL, bypass=True)
    variables, images = started()
    assert shapes(bypassed) == jax.tree.map(jnp.shape, variables)
    params = dict(variables["params"])
    for name in ("fire3", "fire5", "fire7", "fire9"):
        params[name] = jax.tree.map(jnp.zeros_like, params[name])
    _, seen = jitted.apply(bypassed, {"params": params}, images, train=False)
    for after, before in (("fire3", "fire2"), ("fire7", "fire6")):
        np.testing.assert_array_equal(seen[after], seen[before])
    for after, before in (("fire5", "fire4"), ("fire9", "fire8")):
        pooled = jitted.apply(layers.MaxPool(3, 2, ceil=True), {}, seen[before])
        np.testing.assert_array_equal(seen[after], pooled)


@pytest.mark.slow
def test_logits_are_the_mean_of_the_rectified_class_map():
    variables, images = started()
    logits, seen = jitted.apply(squeezenet1_0(**SMALL), variables, images, train=False)
    assert seen["class_map"].shape == (2, 8, 8, 4) and variables["params"]["output"]["kernel"].shape == (1, 1, 64, 4)
    assert float(seen["class_map"].min()) >= 0
    np.testing.assert_allclose(logits, seen["class_map"].mean((1, 2)), rtol=1e-6)


def test_no_classes_give_the_features():
    variables, images = started()
    headless = squeezenet1_0(**{**SMALL, "classes": 0})
    assert set(variables["params"]) - set(shapes(headless)["params"]) == {"output"}
    params = {name: leaf for name, leaf in variables["params"].items() if name != "output"}
    output, seen = jitted.apply(headless, {"params": params}, images, train=False)
    assert output.shape == (2, 64)
    np.testing.assert_array_equal(output, seen["features"])


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_fits(norm):
    variables = shapes(squeezenet1_1(**SMALL, norm=NORMS[norm]))
    assert ("bias" in variables["params"]["fire2"]["squeeze"]["conv"]) == (norm == "none")


KNOBS = {
    "channels": 64,
    "kernel": 3,
    "pools": (2, 4, 6),
    "bypass": True,
    "activation": jnp.tanh,
    "norm": norms.batch_norm,
    "dropout": 0.1,
    "initializer": init.xavier,
    "width": 1 / 4,
    "stem": "small",
}


@pytest.mark.slow
@pytest.mark.parametrize("knob", KNOBS)
def test_every_knob_changes_the_computation(knob):
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)

    def program(**knobs):
        network = squeezenet1_0(**{"classes": 3, "width": 1 / 8, **knobs})
        start = functools.partial(network.init_with_output, train=True)
        return str(jax.make_jaxpr(start)({"params": KEY, "dropout": KEY}, images))

    assert program(**{knob: KNOBS[knob]}) != program()
