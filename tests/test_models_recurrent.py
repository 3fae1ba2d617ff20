"""Recurrent layers against Flax's cells, finite differences and what they are known for; classifiers that read an image."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.models import recurrent
from cnnlab.ops import init
from tests import jitted

KEY = jax.random.key(0)
CELLS = {
    "rnn": nn.SimpleCell,
    "lstm": nn.OptimizedLSTMCell,
    "gru": nn.GRUCell,
}
GATES = {"rnn": ("i",), "lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}


def in_flax(name, params):
    """The parameters of one of our layers under the names of Flax's cell, which has a kernel for each gate."""
    width = params["recurrent"].shape[0]
    found = {}
    for number, gate in enumerate(GATES[name]):
        columns = slice(number * width, (number + 1) * width)
        given, before = params["inputs"]["kernel"][:, columns], params["recurrent"][:, columns]
        bias = params["inputs"]["bias"][columns]
        if name == "rnn":
            found |= {"i": {"kernel": given, "bias": bias}, "h": {"kernel": before}}
        elif name == "lstm":
            found |= {f"i{gate}": {"kernel": given}, f"h{gate}": {"kernel": before, "bias": bias}}
        else:
            content = {"bias": params["recurrent_bias"]} if gate == "n" else {}
            found |= {f"i{gate}": {"kernel": given, "bias": bias}, f"h{gate}": {"kernel": before, **content}}
    return found


def in_f64(name, steps=7, **knobs):
    """(layer, parameters f64 drawn at random, inputs f64 [B, T, D] of T steps)."""
    layer = recurrent.LAYERS[name](width=5, **knobs)
    draw = np.random.default_rng(0)
    started = jitted.init(layer, KEY, jnp.zeros((3, 7, 4), jnp.float32))["params"]
    params = jax.tree.map(lambda leaf: jnp.asarray(draw.normal(0, 0.7, leaf.shape)), started)
    return layer, params, jnp.asarray(draw.normal(size=(3, steps, 4)))


@pytest.mark.parametrize("name", recurrent.LAYERS)
def test_layers_and_their_gradients_are_those_of_flax(name):
    with jax.enable_x64(True):
        layer, params, x = in_f64(name, **({"forget_bias": 0.0} if name == "lstm" else {}))
        cell = CELLS[name](features=5, param_dtype=jnp.float64)
        weights = jnp.asarray(np.random.default_rng(1).normal(size=(3, 7, 5)))

        @jax.jit
        @functools.partial(jax.value_and_grad, argnums=(0, 1))
        def ours(params, x):
            return jnp.sum(weights * layer.apply({"params": params}, x)[0])

        @jax.jit
        @functools.partial(jax.value_and_grad, argnums=(0, 1))
        def theirs(params, x):
            carry = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), cell.initialize_carry(KEY, (3, 4)))
            total = jnp.zeros(())
            for time in range(7):
                carry, hidden = cell.apply({"params": in_flax(name, params)}, carry, x[:, time])
                total += jnp.sum(weights[:, time] * hidden)
            return total

        for found, wanted in zip(jax.tree.leaves(ours(params, x)), jax.tree.leaves(theirs(params, x)), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("name", "knobs"),
    [("rnn", {}), ("lstm", {"peepholes": True}), ("gru", {}), ("gru", {"reset": "before"})],
)
def test_a_sequence_may_be_cut_and_the_gradient_is_that_of_finite_differences(name, knobs):
    with jax.enable_x64(True):
        layer, params, x = in_f64(name, 100, **knobs)
        run = jax.jit(lambda params, x, start: layer.apply({"params": params}, x, start))
        whole, last = run(params, x, None)
        first, state = run(params, x[:, :3], None)
        rest, end = run(params, x[:, 3:], state)
        np.testing.assert_allclose(jnp.concatenate([first, rest], axis=1), whole, rtol=0, atol=1e-14)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-14), end, last)
        loss = jax.jit(lambda params: jnp.sum(jnp.sin(layer.apply({"params": params}, x)[0])))
        gradient = jax.jit(jax.grad(loss))(params)
        for number, leaf in enumerate(jax.tree.leaves(params)):
            leaves = jax.tree.leaves(params)
            moved = np.random.default_rng(number).normal(size=leaf.shape)
            ends = []
            for step in (1e-6, -1e-6):
                leaves[number] = leaf + step * moved
                ends.append(float(loss(jax.tree.unflatten(jax.tree.structure(params), leaves))))
            slope = float(jnp.sum(jax.tree.leaves(gradient)[number] * moved))
            assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("bias", [2.0, 12.0])
def test_the_gradient_along_the_cell_is_the_product_of_the_forget_gates_and_a_vanilla_network_loses_its_own(bias):
    """100 steps without inputs, and without a path through the gates: they are σ(bias) each."""
    x = jnp.zeros((1, 100, 2))
    layer = recurrent.LSTM(width=4, forget_bias=bias, recurrent_initializer=init.zeros)
    params = jitted.init(layer, KEY, x)
    cell = jnp.array([[0.3, -0.2, 0.5, 0.1]])
    slope = jax.jit(jax.grad(lambda cell: layer.apply(params, x, (jnp.zeros((1, 4)), cell))[1][1].sum()))(cell)
    np.testing.assert_allclose(slope, np.full((1, 4), (1 / (1 + np.exp(-bias))) ** 100), rtol=1e-4)
    vanilla = recurrent.VanillaRNN(width=4, recurrent_initializer=functools.partial(init.normal, std=0.3))
    weights = jitted.init(vanilla, KEY, x)
    slope = jax.jit(jax.grad(lambda hidden: vanilla.apply(weights, x, hidden)[1].sum()))(cell)
    assert 0 < float(jnp.abs(slope).max()) < 1e-12


@pytest.mark.parametrize("name", recurrent.LAYERS)
def test_a_classifier_reads_rows_or_pixels_forwards_and_backwards(name):
    images = jax.random.normal(KEY, (2, 3, 4, 2))
    rows = recurrent.SequenceClassifier(5, layer=recurrent.LAYERS[name], widths=(6, 7), bidirectional=True)
    variables = jitted.init(rows, KEY, images, train=False)
    logits, seen = jitted.apply(rows, variables, images, train=False)
    assert logits.shape == (2, 5) and seen["layer2"].shape == (2, 3, 7) and seen["features"].shape == (2, 14)
    np.testing.assert_array_equal(seen["features"][:, :7], seen["layer2"][:, -1])
    # What is read last backwards is the first row: the hidden state before it depends on the rows below alone.
    changed = jitted.apply(rows, variables, images.at[:, 0].add(1.0), train=False)[1]
    assert np.array_equal(changed["backward_layer2"][:, :-1], seen["backward_layer2"][:, :-1])
    assert not np.allclose(changed["layer1"][:, 0], seen["layer1"][:, 0])
    pixels = rows.clone(read="pixels", widths=(6,))
    _, seen = jitted.apply(pixels, jitted.init(pixels, KEY, images, train=False), images, train=False)
    assert seen["layer1"].shape == (2, 12, 6)
