"""Claim C48: a ReLU unit that is 0 on all its inputs never recovers while these stay as they are; a leaky one can.

Paper:    A. Maas, A. Hannun, A. Ng, Rectifier nonlinearities improve neural network acoustic models, 2013, section 2; L. Lu et
          al., Dying ReLU and initialization, 2020, arXiv 1903.06733
Command:  python launch.py measure --experiment=c48_dead_relu
Result:   exact; docs/claims/c48.md has the numbers.

A unit of the first hidden layer is dead where its pre-activation is negative on every training image. It is 0 there, so that
the gradients by its weights and bias are exactly 0, and a step of plain descent, momentum or Adam leaves it as it is, for
ever and on any batch of these images. Here half of the 32 units of an MLP on digits start dead, by a bias just low enough,
and 500 steps follow. A leaky unit has a hundredth of the gradient there, of either sign: within 500 steps some of them come
back and others do not. Three things qualify the word never: weight decay moves a dead unit's weights, a dead unit of a deeper
layer can come back when the layers below it change what it sees, and other images than those of training may activate it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.data.arrays import digits
from cnnlab.metric import SHARE, Metric
from cnnlab.models.layers import flatten
from cnnlab.models.mlp import MLP
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.schedules import constant

WIDTHS, DEAD, STEPS, BATCH, SHOWN = (32, 32), 16, 500, 64, 25
"""Hidden units, those of a layer that start dead, steps, images of a batch, and steps between the points of the curves."""
RATES = {"momentum": 0.05, "adam": 0.005}
CASES = {
    "ReLU, momentum": ("relu", "momentum", "dense1"),
    "ReLU, Adam": ("relu", "adam", "dense1"),
    "leaky ReLU, momentum": ("leaky_relu", "momentum", "dense1"),
    "leaky ReLU, Adam": ("leaky_relu", "adam", "dense1"),
    "ReLU of the second layer, Adam": ("relu", "adam", "dense2"),
}
"""{case: (activation, optimiser, the layer whose units start dead)}."""


@functools.cache
def examples() -> tuple[np.ndarray, np.ndarray]:
    """Returns (images f32 [N, 8, 8, 1] of mean 0 and variance 1, labels i32 [N]) of the training split of digits."""
    train = digits().splits["train"]
    images = np.asarray(train.columns["image"], np.float32)
    return (images - images.mean()) / images.std(), np.asarray(train.columns["label"])


def start(seed: int, activation: str, layer: str) -> Any:
    """Returns He-initialised parameters, with biases at which the first DEAD units of a layer are negative on all images.

    The largest pre-activation of each is −0.01.
    """
    draw, sizes = np.random.default_rng(seed), (64, *WIDTHS, 10)
    params = {
        name: {
            "kernel": (draw.standard_normal((into, out)) * np.sqrt(2 / into)).astype(np.float32),
            "bias": np.zeros(out, np.float32),
        }
        for name, into, out in zip(("dense1", "dense2", "output"), sizes[:-1], sizes[1:], strict=True)
    }
    largest = np.asarray(largest_before(layer, activation, params))
    params[layer]["bias"][:DEAD] = -largest[:DEAD] - 0.01
    return params


@functools.partial(jax.jit, static_argnums=(0, 1))
def largest_before(layer: str, activation: str, params: Any) -> jax.Array:
    """Returns the largest pre-activation [units] of each unit of a layer over all training images."""
    images, _ = examples()
    _, seen = MLP(10, WIDTHS, ACTIVATIONS[activation]).apply({"params": params}, images, train=False)
    below = flatten(jnp.asarray(images)) if layer == "dense1" else seen["dense1"]
    return jnp.max(below @ params[layer]["kernel"] + params[layer]["bias"][None], axis=0)


@functools.cache
def trained(case: str) -> Any:
    """Returns a compiled function (params, key) -> four arrays on the units that start dead.

    They are the gradients on all images at first [DEAD], the largest gradients of any batch [DEAD], the largest changes of a
    weight [DEAD], and the largest pre-activations after every SHOWN steps [T, DEAD].
    """
    activation, name, layer = CASES[case]
    network = MLP(10, WIDTHS, ACTIVATIONS[activation])
    images, labels = examples()
    optimizer: optax.GradientTransformation = OPTIMIZERS[name](steps=STEPS, lr=RATES[name], schedule=constant)

    def gradient_of(params: Any, chosen: jax.Array) -> Any:
        def loss(params: Any) -> jax.Array:
            logits, _ = network.apply({"params": params}, jnp.asarray(images)[chosen], train=True)
            return jnp.mean(cross_entropy(logits, jnp.asarray(labels)[chosen]))

        return jax.grad(loss)(params)

    def size(tree: Any) -> jax.Array:
        """Returns the largest entry of the weights and biases of each unit that started dead, [DEAD]."""
        return jnp.maximum(jnp.max(jnp.abs(tree["kernel"][:, :DEAD]), axis=0), jnp.abs(tree["bias"][:DEAD]))

    def step(carry: Any, key: jax.Array) -> Any:
        params, state = carry
        gradient = gradient_of(params, jax.random.randint(key, (BATCH,), 0, len(images)))
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), size(gradient[layer])

    def some_steps(carry: Any, keys: jax.Array) -> Any:
        carry, gradients = jax.lax.scan(step, carry, keys)
        return carry, (jnp.max(gradients, axis=0), largest_before(layer, activation, carry[0])[:DEAD])

    def train(params: Any, key: jax.Array) -> Any:
        keys = jax.random.split(key, STEPS).reshape(STEPS // SHOWN, SHOWN)  # [STEPS] -> [T, SHOWN]
        first = size(gradient_of(params, jnp.arange(len(images)))[layer])
        (after, _), (gradients, largest) = jax.lax.scan(some_steps, (params, optimizer.init(params)), keys)
        moved = size(jax.tree.map(lambda new, old: new - old, after[layer], params[layer]))
        return first, jnp.max(gradients, axis=0), moved, largest

    return jax.jit(train)


def measure(seed: int) -> Measured:
    """Trains the networks from the initial weights of a seed and follows the units that start dead."""
    numbers: dict[str, dict[str, float]] = {"gradient": {}, "least_gradient": {}, "movement": {}, "recovered": {}}
    curves = {}
    for case, (activation, _, layer) in CASES.items():
        params = start(seed, activation, layer)
        first, gradients, moved, largest = (np.asarray(array) for array in trained(case)(params, jax.random.key(seed)))
        numbers["gradient"][case] = float(max(first.max(), gradients.max()))
        numbers["least_gradient"][case] = float(first.min())
        numbers["movement"][case] = float(moved.max())
        numbers["recovered"][case] = float(np.mean(largest[-1] > 0))
        steps = SHOWN * np.arange(1, len(largest) + 1)
        curves[case] = ((0.0, -0.01), *zip(map(float, steps), map(float, largest.mean(axis=1)), strict=True))
    return Measured(numbers=numbers, curves=curves)


measurement = Measurement(
    claim="C48",
    question="Does a ReLU unit that is 0 on all training images ever come back, and does a leaky one?",
    measure=measure,
    metrics=(
        Metric("gradient"),
        Metric("least_gradient"),
        Metric("movement"),
        Metric("recovered", SHARE, higher_is_better=True),
    ),
    seeds=10,
    verdict=every(
        identity("C48", "ReLU, momentum", 0.0, 0.0, "No gradient by a dead ReLU unit differs from 0 in 500 steps of momentum"),
        identity("C48", "ReLU, Adam", 0.0, 0.0, "Nor in 500 steps of Adam"),
        on("movement", identity("C48", "ReLU, momentum", 0.0, 0.0, "Its weights and bias stay as they are to the bit")),
        on("movement", identity("C48", "ReLU, Adam", 0.0, 0.0, "With Adam too")),
        on("recovered", identity("C48", "ReLU, momentum", 0.0, 0.0, "No dead ReLU unit is active on any image afterwards")),
        on("least_gradient", at_least("C48", "leaky ReLU, momentum", 1e-8, "Every leaky unit has a gradient at the start")),
        on(
            "recovered",
            at_least("C48", "leaky ReLU, Adam", 1 / DEAD, "Some leaky units become active again in 500 steps of Adam"),
        ),
        shown=(
            on("recovered", at_least("C48", "leaky ReLU, momentum", 1 / DEAD, "Some of them become active with momentum")),
            on("recovered", at_most("C48", "leaky ReLU, Adam", 1 - 1 / DEAD, "Not all of them do with Adam")),
            on("recovered", at_most("C48", "leaky ReLU, momentum", 1 - 1 / DEAD, "Not all of them do with momentum")),
            on(
                "recovered",
                at_least(
                    "C48",
                    "ReLU of the second layer, Adam",
                    1 / DEAD,
                    "Dead ReLU units of the second layer become active when the layer below them changes",
                ),
            ),
        ),
        scope="an MLP of two hidden layers on digits, no weight decay, units that are 0 on all training images",
    ),
    card=Card(
        published="Maas et al. (2013) state that a unit that is never active is never adjusted by gradient descent; no number.",
        would_change="A gradient other than 0 at a unit whose pre-activation is negative on every image of the batch.",
        quick="--seeds=2",
        figure=Figure(x="step", y="mean of the largest pre-activations of the units that start dead"),
        deviations="Units of the first layer, made dead by their biases; no rate at which units die in training is measured. "
        "A dead unit of the second layer can come back when the layer below it changes, which is shown.",
    ),
)
