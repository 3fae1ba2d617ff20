"""Quantised networks: which layers and norms they have, folding, what is off and on, integer sums, and bytes of a program."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.models import MODELS
from cnnlab.models.integer_network import IntegerNetwork, packed, run, sums_of
from cnnlab.models.layers import Conv
from cnnlab.models.quantized import Quantized, Scheme, folded, layers_of, with_ranges
from cnnlab.ops import quantize, trees
from cnnlab.ops.quantize import COLLECTION

SHAPE = (8, 8, 2)
SCHEME = Scheme(bits=8, activation_bits=8, weights_by="channel", symmetric=False, ranges="minmax", percentile=99.9)
NETWORK = MODELS["convnet"](classes=5, widths=(4, 8), depth=1)
FOLDED = {"stage1_conv1": "stage1_norm1", "stage2_conv1": "stage2_norm1", "output": None}


@functools.cache
def images() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(12, *SHAPE)).astype(np.float32)


@functools.cache
def variables(dtype: type = np.float32):
    """Variables of NETWORK, quantised and off, with statistics, scales and biases of some training."""
    random = np.random.default_rng(0)
    found = jax.eval_shape(lambda: Quantized(NETWORK, SHAPE, SCHEME, aware=True).init(jax.random.key(0), images(), train=False))

    def leaf(path, shape):
        name = path[-1].key
        drawn = random.uniform(0.5, 2, shape.shape) if name in ("var", "scale") else random.normal(size=shape.shape) / 2
        return np.asarray(drawn, dtype)

    network = {name: tree for name, tree in found.items() if name != COLLECTION}
    ranges = jax.tree.map(lambda shape: np.zeros((), np.float32), found[COLLECTION]["ranges"])
    return {**jax.tree.map_with_path(leaf, network), COLLECTION: {"is_on": np.asarray(False), "ranges": ranges}}


def quantised(scheme: Scheme = SCHEME, kind: type = Quantized, *, aware: bool = True) -> Quantized:
    return kind(NETWORK, SHAPE, scheme, aware)


@functools.cache
def on():
    """The same, with ranges, and on."""
    found = jax.jit(quantised().observe)(variables(), images())
    return {**variables(), COLLECTION: {"is_on": np.asarray(True), "ranges": with_ranges(found)}}


def logits(network, given, x=None):
    return np.asarray(jax.jit(lambda v, x: network.apply(v, x, train=False)[0])(given, images() if x is None else x))


def plain(given):
    return {name: tree for name, tree in given.items() if name != COLLECTION}


def test_layers_and_the_norms_that_follow_them_directly_are_found():
    assert {path: norm and norm.path for path, norm in layers_of(NETWORK, SHAPE).items()} == FOLDED
    # The inputs of all times are multiplied at once; what is in the loop stays as it is.
    assert list(layers_of(MODELS["lstm"](classes=3), (8, 8, 1))) == ["forward/layer1/inputs", "output"]


@pytest.mark.slow
def test_in_the_zoo_norms_are_folded_where_they_follow_a_convolution():
    found = layers_of(MODELS["mobilenet_v1"](classes=3, width=0.25), (32, 32, 3))
    assert len(found) == 28 and [path for path, norm in found.items() if norm is None] == ["output"]
    preact = layers_of(MODELS["cifar_preact_resnet20"](classes=3), (32, 32, 3))
    # A block's second norm follows its first convolution; that of the next block follows a sum.
    assert {path.rpartition("/")[2] for path, norm in preact.items() if norm} == {"conv1"}


class Shared(nn.Module):
    """A convolution of which two norms, and one that is returned, are taken."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool):
        from cnnlab.models.norms import BatchNorm

        conv, norm = Conv(3, 3, name="shared"), BatchNorm(name="norm")
        x = norm(conv(conv(x[..., :3])), train=train)
        seen = Conv(3, 3, name="seen")(x)
        both = Conv(3, 3, name="both")(BatchNorm(name="of_seen")(seen, train=train))
        after = BatchNorm(name="one")(both, train=train) + BatchNorm(name="other")(both, train=train)
        return nn.Dense(2, name="output")(jnp.mean(after, axis=(1, 2))), {"seen": seen}


def test_a_norm_is_folded_only_where_nothing_else_takes_its_input():
    found = layers_of(Shared(), (6, 6, 3))
    assert set(found) == {"shared", "seen", "both", "output"} and not any(found.values())


class OfFlax(nn.Module):
    """A user's network of layers of Flax."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool):
        x = jax.nn.relu(nn.Conv(4, (3, 3), strides=2, name="conv")(x))
        x = nn.Dense(3, name="output")(x.reshape(x.shape[0], -1))  # [B, H, W, C] -> [B, H·W·C]
        return x, {"output": x}


@pytest.mark.slow
def test_convolutions_of_flax_are_rounded_too_and_computed_in_floats_from_codes():
    network, whole = (kind(OfFlax(), SHAPE, SCHEME, False) for kind in (Quantized, IntegerNetwork))
    assert network.layers == {"conv": None, "output": None}
    given = jax.jit(lambda: network.init(jax.random.key(1), images(), train=False))()
    ranges = with_ranges(jax.jit(network.observe)(given, images()))
    given = {**given, COLLECTION: {"is_on": np.asarray(True), "ranges": ranges}}
    plainly, rounded, by_codes = (
        logits(each, used) for each, used in ((OfFlax(), plain(given)), (network, given), (whole, given))
    )
    assert 0 < np.abs(rounded - plainly).max() < 0.05 * np.abs(plainly).max()
    np.testing.assert_allclose(by_codes, rounded, atol=0.01 * np.abs(plainly).max())


def test_off_it_computes_what_the_network_does():
    expected = jax.jit(lambda v: NETWORK.apply(v, images(), train=False)[0])(plain(variables()))
    for kind in (Quantized, IntegerNetwork):
        np.testing.assert_array_equal(logits(quantised(kind=kind), variables()), expected)


def test_folding_changes_nothing_but_rounding():
    """Folded kernels, with norms that do nothing but add, in f64."""
    with jax.enable_x64(True):
        given, x = plain(variables(np.float64)), images().astype(np.float64)
        params, statistics = trees.flatten(given["params"]), trees.flatten(given["batch_stats"])
        for path, norm in quantised().layers.items():
            kernel, bias = folded(given, params, path, norm)
            params[f"{path}/kernel"] = kernel
            if norm is not None:
                _, shift = norm.folded(given)
                params |= {f"{norm.path}/scale": np.ones_like(shift), f"{norm.path}/bias": shift}
                statistics |= {f"{norm.path}/mean": 0 * shift, f"{norm.path}/var": 1 - norm.epsilon + 0 * shift}
            assert (bias is None) == (norm is not None)
        found = {"params": trees.unflatten(params), "batch_stats": trees.unflatten(statistics)}
        expected = logits(NETWORK, given, x)
        np.testing.assert_allclose(logits(NETWORK, found, x), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.slow
def test_with_powers_of_two_folding_is_exact():
    random = np.random.default_rng(1)
    leaves = trees.flatten(plain(variables()))
    for path, leaf in leaves.items():
        if path.endswith(("scale", "var")):
            leaves[path] = (
                np.float32(2.0 ** random.integers(-1, 2, leaf.shape)) if path.endswith("scale") else np.ones_like(leaf)
            )
        else:
            leaves[path] = np.float32(random.integers(-3, 4, leaf.shape))
    given = trees.unflatten(leaves)
    network = MODELS["convnet"](classes=5, widths=(4, 8), depth=1, norm=functools.partial(NETWORK.norm, epsilon=1e-12))
    scheme = dataclasses.replace(SCHEME, bits=3, weights_by="tensor", activation_bits=None)
    # Factors of 1 keep the whole numbers −3 … 3, which 3 bits hold.
    given["params"] |= {
        name: {**tree, "scale": np.ones_like(tree["scale"])} for name, tree in given["params"].items() if "scale" in tree
    }
    rounded = {**given, COLLECTION: {"is_on": np.asarray(True), "ranges": {}}}
    x = np.round(images())
    found = jax.jit(lambda v: Quantized(network, SHAPE, scheme, True).apply(v, x, train=False)[1]["stage2"])(rounded)
    expected = jax.jit(lambda v: network.apply(v, x, train=False)[1]["stage2"])(given)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_eight_bits_are_near_and_two_are_not():
    expected = logits(NETWORK, plain(variables()))
    errors = {}
    for bits in (8, 4, 2):
        scheme = dataclasses.replace(SCHEME, bits=bits, activation_bits=bits)
        errors[bits] = np.abs(logits(quantised(scheme), on()) - expected).mean() / np.abs(expected).mean()
    assert errors[8] < 0.03 < errors[4] < errors[2]


def test_the_sums_of_integers_equal_those_of_the_simulated_network_to_the_bit():
    """Layer by layer, for the inputs that the simulated network has there."""
    network, given = quantised(), on()
    variables = jax.jit(lambda v: packed(network, v))(given)
    seen = {}

    def intercept(call, args, kwargs, context):
        path = "/".join(context.module.path)
        if context.method_name == "__call__" and path in network.layers:
            kernel = context.module.variables["params"]["kernel"]
            bias = context.module.variables["params"].get("bias")
            seen[path] = kernel, sums_of(context.module, args[0], variables, path, network), bias, call(*args, **kwargs)
            return seen[path][-1]
        return call(*args, **kwargs)

    def collected(v):
        with nn.intercept_methods(intercept):
            network.apply(v, images(), train=False)
        return dict(seen)

    for path, (kernel, sums, bias, y) in jax.device_get(jax.jit(collected)(given)).items():
        grid, scale = jax.device_get((variables.inputs[path], variables.scales[path]))
        np.testing.assert_array_equal(np.rint(kernel / scale), variables.codes[path])
        exact = (np.float64(y) - (0 if bias is None else bias)) / (np.float64(grid.scale) * scale)
        assert sums.dtype == np.int32 and np.abs(sums).max() > 100
        np.testing.assert_array_equal(sums, np.rint(exact))
        np.testing.assert_allclose(exact, sums, atol=0.02)


@pytest.mark.slow
def test_the_network_of_integers_predicts_what_the_simulated_one_does():
    """But for a code that rounding moves to its neighbour now and then."""
    simulated, whole = logits(quantised(), on()), logits(quantised(kind=IntegerNetwork), on())
    assert np.abs(whole - simulated).max() < 0.02 * np.abs(simulated).max()
    assert np.median(np.abs(whole - simulated)) < 1e-4 * np.abs(simulated).max()
    np.testing.assert_array_equal(whole.argmax(-1), simulated.argmax(-1))


@pytest.mark.slow
def test_packed_weights_take_a_byte_and_give_the_same_where_inputs_stay_in_floats():
    scheme = dataclasses.replace(SCHEME, activation_bits=None)
    given = {**on(), COLLECTION: {"is_on": np.asarray(True), "ranges": {}}}
    network = quantised(scheme)
    variables = jax.jit(lambda v: packed(network, v))(given)
    numbers = sum(leaf.size for leaf in jax.tree.leaves(variables.codes))
    assert numbers == 3 * 3 * 2 * 4 + 3 * 3 * 4 * 8 + 8 * 5 == sum(leaf.nbytes for leaf in jax.tree.leaves(variables.codes))
    found = jax.jit(lambda v, x: run(network, v, x)[0])(variables, images())
    np.testing.assert_allclose(found, logits(network, given), rtol=1e-4, atol=1e-5)


def trained(network, given):
    """(loss, gradient by the parameters, new model state) of a step."""

    def loss(params):
        mutable = ["batch_stats", COLLECTION]
        (found, _), state = network.apply({**given, "params": params}, 2 * images(), train=True, mutable=mutable)
        return jnp.mean(found**2), state

    (value, state), gradient = jax.device_get(jax.jit(jax.value_and_grad(loss, has_aux=True))(given["params"]))
    return float(value), gradient, state


@pytest.mark.slow
def test_aware_training_moves_ranges_and_statistics_and_has_gradients_everywhere():
    _, gradient, state = trained(quantised(), on())
    for path, leaf in trees.flatten(gradient).items():
        assert np.any(leaf != 0), path
    before, after = (trees.flatten(tree[COLLECTION]["ranges"]) for tree in (on(), state))
    assert after["stage1_conv1/high"] == pytest.approx(2 * images().max()) and after["output/low"] <= before["output/low"]
    # The statistics are those of the convolution itself, not of the folded one, but for the rounding of its numbers.
    plain_state = trained(quantised(aware=False), on())[2]
    for name in ("stage1_norm1/mean", "stage1_norm1/var", "stage2_norm1/mean", "stage2_norm1/var"):
        found, expected, old = (trees.flatten(tree["batch_stats"])[name] for tree in (state, plain_state, on()))
        assert np.abs(found - expected).max() < 0.1 * np.abs(expected - old).max()


@pytest.mark.slow
def test_before_it_is_on_aware_training_is_that_of_the_network():
    network = quantised()
    value, gradient, state = trained(network, variables())
    expected, of_plain, statistics = trained(quantised(aware=False), variables())
    assert value == pytest.approx(expected, rel=1e-5)
    for path, leaf in trees.flatten(of_plain).items():
        np.testing.assert_allclose(trees.flatten(gradient)[path], leaf, rtol=1e-3, atol=1e-5, err_msg=path)
    np.testing.assert_allclose(
        *(trees.flatten(tree["batch_stats"])["stage2_norm1/var"] for tree in (state, statistics)), rtol=1e-5
    )
    assert not any(trees.flatten(state[COLLECTION]["ranges"]).values())


@pytest.mark.slow
def test_percentiles_are_of_each_image_so_that_no_image_widens_the_range_of_others():
    scheme = dataclasses.replace(SCHEME, ranges="percentile", percentile=90.0)
    found = jax.jit(quantised(scheme).observe)(variables(), images())["stage1_conv1"]
    np.testing.assert_allclose(found.high, np.quantile(images().reshape(12, -1), 0.9, axis=1).mean(), rtol=1e-5)
    assert quantize.Extent(*found).low < 0
