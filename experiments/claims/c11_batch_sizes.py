"""Claim C11: mini-batches reach a loss with less computation than the full batch, along a noisier curve. An MLP on MNIST.

Paper:    Y. LeCun, L. Bottou, G. B. Orr, K.-R. Müller, Efficient backprop, 1998, section 4.1; L. Bottou, F. E. Curtis, J.
          Nocedal, Optimization methods for large-scale machine learning, 2018, section 3.3
Command:  python launch.py measure --experiment=c11_batch_sizes
Result:   not run yet.

An MLP with one hidden layer of 100 ReLU units learns 10,000 images of MNIST at 14x14, which the seed draws, by plain gradient
descent at a constant rate: in batches of 64, up to 1,000 steps, or with all 10,000 in each of up to 500 steps. The computation
until the loss on all of them is below 0.25 is counted in examples whose gradient was taken. A run that is not there at the end
counts as if it were, which favours the full batch, whose runs are the long ones.

Each has the rate, out of six a factor of two apart, at which it needed the fewest examples on seed 100, which the comparison
does not use. The curve is noisy where the loss of a batch is above that of the step before, as a share of the steps until the
loss is reached.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_most
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import Array, PyTree
from cnnlab.metric import SHARE, Metric
from cnnlab.models.mlp import MLP
from cnnlab.ops.optimizers import sgd
from cnnlab.ops.schedules import constant
from experiments.claims import side_by_side

MINI, FULL = "batches of 64", "the full batch"
EXAMPLES = 10_000
BATCH = {MINI: 64, FULL: EXAMPLES}
STEPS = {MINI: 1000, FULL: 500}
EVERY = 5
"""Steps between two measurements of the loss on all examples."""
RATES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
LEVEL = 0.25
TUNING_SEED = 100
MODEL = MLP(classes=10, widths=(100,))
OPTIMIZER: Callable[..., optax.GradientTransformation] = sgd


@functools.cache
def trained(name: str) -> Callable[..., Any]:
    """Returns the compiled function (rates [R], key, images, labels, positions) -> (losses [R, T / EVERY], losses [R, T]).

    The first are those on all examples, the second those of the batches.
    """

    def run(lr: Array, key: Array, images: Array, labels: Array, positions: Array) -> tuple[Array, Array]:
        def loss(params: PyTree, state: PyTree) -> Array:
            return side_by_side.scores(MODEL, params, state, images, labels)[0]

        rule = OPTIMIZER(steps=STEPS[name], schedule=constant, lr=lr)
        start, given = side_by_side.initial(MODEL, key, images), (images, labels)
        return side_by_side.train(MODEL, rule, start, given, positions, watch=loss, every=EVERY)[1:]

    return jax.jit(jax.vmap(run, in_axes=(0, None, None, None, None)))


def curves_of(name: str, seed: int, rates: tuple[float, ...], data_dir: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns (losses on all examples f64 [R, T / EVERY], losses of the batches f64 [R, T]) of a batch size at some rates."""
    images, labels = side_by_side.mnist(data_dir, 14)["train"]
    chosen = np.random.default_rng(seed).choice(len(labels), EXAMPLES, replace=False)
    images = (images[chosen] - images.mean()) / images.std()
    positions = side_by_side.shuffled(seed, EXAMPLES, BATCH[name], STEPS[name])
    found = trained(name)(jnp.asarray(rates, jnp.float32), jax.random.key(seed), images, labels[chosen], positions)
    whole, batches = (np.nan_to_num(np.asarray(losses, np.float64), nan=np.inf) for losses in found)
    return whole, batches


def steps_of(losses: np.ndarray) -> np.ndarray:
    """Returns the steps f64 [R] until losses [R, T / EVERY] are below LEVEL."""
    return side_by_side.steps_to(-LEVEL, -losses.T, EVERY)  # [R, T / EVERY] -> [T / EVERY, R]


@functools.cache
def fastest_rate(name: str, data_dir: str | None) -> float:
    """Returns the rate at which TUNING_SEED needs the fewest steps; of equal ones that with the lowest loss at the end."""
    with jax.numpy_dtype_promotion("standard"):  # optax counts steps in i32
        losses, _ = curves_of(name, TUNING_SEED, RATES, data_dir)
    return float(RATES[np.lexsort((losses[:, -1], steps_of(losses)))[0]])


def measure(seed: int, data_dir: str | None = None) -> Measured:
    """Trains in mini-batches and by the full batch, each at the rate that was chosen for it.

    Args:
        seed: seed of the examples, of initial weights and of the order.
        data_dir: folder of prepared TFDS data sets; None: the default.
    """
    numbers: dict[str, dict[str, float]] = {metric.name: {} for metric in METRICS}
    curves = {}
    for name in BATCH:
        lr = fastest_rate(name, data_dir)
        with jax.numpy_dtype_promotion("standard"):  # optax counts steps in i32
            (losses,), (batches,) = curves_of(name, seed, (lr,), data_dir)
        steps = int(steps_of(losses[None])[0])
        numbers["examples"][name] = float(steps * BATCH[name])
        numbers["rises"][name] = float(np.mean(np.diff(batches[:steps]) > 0))
        numbers["lowest_loss"][name], numbers["learning_rate"][name] = float(losses.min()), lr
        points = zip(EVERY * BATCH[name] * np.arange(1, len(losses) + 1), losses, strict=True)
        curves[name] = tuple((float(seen), float(loss)) for seen, loss in points)
    return Measured(numbers, curves)


METRICS = (
    Metric("examples", "examples", higher_is_better=False, log_scale=True),
    Metric("rises", SHARE),
    Metric("lowest_loss", "nats", higher_is_better=False, log_scale=True),
    Metric("learning_rate"),
)

measurement = Measurement(
    claim="C11",
    question="How many examples do mini-batches and the full batch need to reach a loss, each at its best rate?",
    measure=measure,
    metrics=METRICS,
    seeds=8,
    verdict=every(
        contrast(
            "C11",
            MINI,
            "better",
            "Batches of 64 reach the loss with less computation than the full batch",
            against=FULL,
            scale="log",
            smallest=float(np.log(2)),
        ),
        on("rises", contrast("C11", MINI, "higher", "Their curve is noisier", against=FULL, smallest=0.1)),
        requires=tuple(on("lowest_loss", at_most("C11", name, LEVEL, f"The loss is reached with {name}")) for name in BATCH),
        scope="an MLP of 100 ReLU units, 10,000 images of MNIST at 14x14, plain gradient descent, a training loss of 0.25",
    ),
    card=Card(
        published="LeCun et al. (1998) say that stochastic learning is usually much faster than batch learning, and that a "
        "training set of ten copies of the same examples makes a full batch ten times slower; no number for real data.",
        would_change="A full batch that needs less than twice the computation of batches of 64.",
        quick="--seeds=1",
        figure=Figure(x="examples whose gradient was taken", y="training loss in nats", log_x=True, log_y=True),
        deviations="A sixth of MNIST's images, so that the full batch is cheap. Only computation is counted, and not time: a "
        "device may take a large batch at once.",
    ),
)
