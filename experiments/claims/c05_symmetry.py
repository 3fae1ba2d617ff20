"""Claim C5: zero initial weights never break the symmetry between units.

Paper:    D. Rumelhart, G. Hinton, R. Williams, Learning internal representations by error propagation, in Parallel Distributed
          Processing, 1986 (Breaking symmetry); I. Goodfellow, Y. Bengio, A. Courville, Deep learning, 2016, section 8.4
Command:  python launch.py measure --experiment=c05_symmetry
Result:   exact; docs/claims/c05.md has the numbers.

An MLP of two hidden layers is trained for 500 steps on 65 digits. Units of a layer that start with equal weights in and out
get equal gradients and stay equal: the layer has one unit in effect. With zeros and an activation that is 0 at 0 (ReLU, tanh)
every gradient but that by the last bias is exactly 0, so that the network learns the frequencies of the classes alone and its
loss ends at their entropy. From other constants, and from zeros with the sigmoid, which is ½ at 0, weights move, and the
units of a layer stay equal up to rounding: a matrix product adds the terms of its columns in different orders, so that bits
may differ. The symmetry of constant weights is broken by a little noise on them or by dropout; that of zeros is not broken by
dropout.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.data.arrays import digits
from cnnlab.metric import Metric
from cnnlab.models.mlp import MLP
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.optimizers import momentum
from cnnlab.ops.schedules import constant

WIDTHS, COUNTS, STEPS, SHOWN = (32, 16), (5, 8), 500, 25
"""Hidden units, images of each even and of each odd digit, steps, and steps between the points of the curves."""
CONSTANT, NOISE, RATE = 0.03, 0.001, 0.03
ROUNDING = 1e-6
"""Difference of weights up to which units count as equal where sums are added in different orders."""
CASES = {
    "zeros, ReLU": ("relu", 0.0, 0.0, 0.0),
    "zeros, tanh": ("tanh", 0.0, 0.0, 0.0),
    "constant, ReLU": ("relu", CONSTANT, 0.0, 0.0),
    "constant, tanh": ("tanh", CONSTANT, 0.0, 0.0),
    "zeros, sigmoid": ("sigmoid", 0.0, 0.0, 0.0),
    "zeros, tanh, dropout": ("tanh", 0.0, 0.0, 0.5),
    "constant, tanh, dropout": ("tanh", CONSTANT, 0.0, 0.5),
    "constant, tanh, noise of 0.001": ("tanh", CONSTANT, NOISE, 0.0),
}
"""{case: (activation, weights at the start, deviation of noise on them, drop probability)}."""
LAYERS = ("dense1", "dense2", "output")


def batch_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images f32 [65, 8, 8, 1] in [0, 1] and the labels i32 [65] that the networks of a seed are trained on."""
    train, draw = digits().splits["train"], np.random.default_rng(seed)
    order = draw.permutation(len(train.columns["label"]))
    of_class = [order[np.asarray(train.columns["label"])[order] == digit] for digit in range(10)]
    chosen = np.concatenate([found[: COUNTS[digit % 2]] for digit, found in enumerate(of_class)])
    images = np.asarray(train.columns["image"])[chosen].astype(np.float32) / np.float32(255)
    return images, np.asarray(train.columns["label"])[chosen]


def start(value: float, noise: float, seed: int) -> Any:
    """Returns parameters of equal weights, as the initialiser `zeros` or a constant one gives them, plus noise."""
    initializer = jax.nn.initializers.constant(value) if value else init.zeros
    network = MLP(10, WIDTHS, initializer=initializer)
    params = network.init(jax.random.key(seed), jnp.zeros((1, 8, 8, 1)), train=False)["params"]
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + np.float32(noise) * draw.standard_normal(leaf.shape).astype(np.float32), params)


def largest_gradient(gradient: Any) -> jax.Array:
    """Returns the largest gradient by anything but the last bias."""
    others = {**gradient, "output": {"kernel": gradient["output"]["kernel"]}}
    return jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(others)]))


def unit_weights(params: Any) -> list[jax.Array]:
    """Returns for each hidden layer the weights of its units, [units, in + 1 + out]: into it, its bias, and out of it."""
    return [
        jnp.concatenate([params[name]["kernel"].T, params[name]["bias"][:, None], params[above]["kernel"]], axis=1)
        for name, above in itertools.pairwise(LAYERS)
    ]


def spread(params: Any) -> jax.Array:
    """Returns the largest difference of a unit's weight from that of the first unit of its layer."""
    return jnp.max(jnp.stack([jnp.max(jnp.abs(weights - weights[:1])) for weights in unit_weights(params)]))


@functools.cache
def trained(activation: str, dropout: float) -> Any:
    """Returns a compiled function (params, images, labels, key) -> (loss, largest gradient, spreads [T]).

    They are the loss after all steps, the largest gradient by anything but the last bias, and the spreads of the units after
    every SHOWN steps.
    """
    network = MLP(10, WIDTHS, ACTIVATIONS[activation], dropout=dropout)
    optimizer: optax.GradientTransformation = momentum(steps=STEPS, lr=RATE, schedule=constant)

    def loss_of(params: Any, images: Any, labels: Any, key: jax.Array, train: bool) -> jax.Array:
        logits, _ = network.apply({"params": params}, images, train=train, rngs={"dropout": key})
        return jnp.mean(cross_entropy(logits, labels))

    def train(params: Any, images: Any, labels: Any, key: jax.Array) -> Any:
        def step(carry: Any, key: jax.Array) -> Any:
            params, state = carry
            gradient = jax.grad(loss_of)(params, images, labels, key, True)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), largest_gradient(gradient)

        def some_steps(carry: Any, keys: jax.Array) -> Any:
            carry, gradients = jax.lax.scan(step, carry, keys)
            return carry, (jnp.max(gradients), spread(carry[0]))

        keys = jax.random.split(key, STEPS).reshape(STEPS // SHOWN, SHOWN)  # [STEPS] -> [T, SHOWN]
        (params, _), (gradients, spreads) = jax.lax.scan(some_steps, (params, optimizer.init(params)), keys)
        return loss_of(params, images, labels, key, False), jnp.max(gradients), spreads

    return jax.jit(train)


def measure(seed: int) -> Measured:
    """Trains the networks on the images of a seed."""
    images, labels = batch_of(seed)
    shares = np.bincount(labels, minlength=10) / len(labels)
    entropy = -float(np.sum(shares[shares > 0] * np.log(shares[shares > 0])))
    numbers: dict[str, dict[str, float]] = {"spread": {}, "gradient": {}, "excess_loss": {}}
    curves = {}
    for case, (activation, value, noise, dropout) in CASES.items():
        began = start(value, noise, seed)
        loss, gradient, spreads = trained(activation, dropout)(began, images, labels, jax.random.key(seed))
        numbers["spread"][case] = float(np.max(spreads))
        numbers["gradient"][case] = float(gradient)
        numbers["excess_loss"][case] = float(loss) - entropy
        steps = SHOWN * np.arange(1, len(spreads) + 1)
        curves[case] = tuple(zip(map(float, steps), map(float, spreads), strict=True))
    return Measured(numbers=numbers, curves=curves)


measurement = Measurement(
    claim="C5",
    question="Do units that start with equal weights ever become different?",
    measure=measure,
    metrics=(Metric("spread"), Metric("gradient"), Metric("excess_loss", "nats", higher_is_better=False)),
    seeds=10,
    verdict=every(
        identity("C5", "zeros, ReLU", 0.0, 0.0, "From zeros the ReLU units of a layer stay equal to the bit"),
        identity("C5", "zeros, tanh", 0.0, 0.0, "From zeros the tanh units of a layer stay equal to the bit"),
        on(
            "gradient",
            identity("C5", "zeros, ReLU", 0.0, 0.0, "With ReLU no gradient but that by the last bias differs from 0"),
        ),
        on(
            "gradient",
            identity("C5", "zeros, tanh", 0.0, 0.0, "With tanh no gradient but that by the last bias differs from 0"),
        ),
        on("excess_loss", identity("C5", "zeros, ReLU", 0.0, 1e-5, "So the loss ends at the entropy of the class frequencies")),
        shown=(
            identity("C5", "zeros, sigmoid", 0.0, ROUNDING, "From zeros sigmoid units stay equal up to rounding"),
            on("gradient", at_least("C5", "zeros, sigmoid", 1e-3, "Their weights get gradients")),
            identity("C5", "constant, ReLU", 0.0, ROUNDING, "From a constant ReLU units stay equal up to rounding"),
            identity("C5", "constant, tanh", 0.0, ROUNDING, "From a constant tanh units stay equal up to rounding"),
            on("gradient", identity("C5", "zeros, tanh, dropout", 0.0, 0.0, "Dropout gives zeros no gradient either")),
        ),
        requires=(
            at_least("C5", "constant, tanh, noise of 0.001", 0.02, "A little noise on the constant makes units different"),
            at_least("C5", "constant, tanh, dropout", 0.1, "Dropout makes units that start from a constant different"),
        ),
        scope="an MLP of two hidden layers on 65 digits, 500 full-batch steps with momentum",
    ),
    card=Card(
        published="Rumelhart, Hinton and Williams (1986) state it without a number: equal weights can never become different.",
        would_change="Two units of a layer that start from zeros and differ, without noise or another asymmetry.",
        quick="--seeds=2",
        figure=Figure(x="step", y="largest difference between the weights of two units"),
        deviations="All biases start at 0, and the last layer at the same constant as the hidden ones.",
    ),
)
