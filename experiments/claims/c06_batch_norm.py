"""Claim C6: batch normalisation trains faster, at higher rates and from more initial scales. Sigmoid networks on MNIST.

Paper:    S. Ioffe, C. Szegedy, Batch normalization: accelerating deep network training by reducing internal covariate shift,
          2015, arXiv 1502.03167, section 4.1 and Figure 1
Command:  python launch.py measure --experiment=c06_batch_norm
Result:   not run yet.

The network of section 4.1: three hidden layers of 100 sigmoid units, batches of 60, plain gradient descent, on MNIST, here
with images of 14x14, 1,000 steps and Xavier's initial weights. It is trained with and without batch normalisation at 13
constant rates from 0.01 to 100, a third of a decade apart, and at seven initial scales, from an eighth to eight times
Xavier's. Seeds draw initial weights and order, which both networks share.

- Speed: steps until 90 % of 2,000 test images are classified rightly, each network at the rate that was fastest for it on seeds
  100 and 101, which the comparison does not use. A network that is not there at the end counts as if it were.
- Rates: the length in decades over which the loss on 2,000 training images is below 0.5 at the end. Between rates of the grid
  the logarithm of the loss is taken to be linear, with a loss of more than 10, or none, as 10.
- Initial scale: the same in octaves of the scale, at the rate of the comparison of speed.

The network without batch normalisation has to learn at its best rate, or there is nothing to compare. The rates were looked at
once, with seed 300, after all of this was written down.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
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
from cnnlab.metric import Metric
from cnnlab.models.mlp import MLP
from cnnlab.models.norms import batch_norm, no_norm
from cnnlab.ops.init import xavier
from cnnlab.ops.optimizers import sgd
from cnnlab.ops.schedules import constant
from experiments.claims import side_by_side

WITH, WITHOUT = "batch normalisation", "none"
OPTIMIZER: Callable[..., optax.GradientTransformation] = sgd
STEPS, EVERY, BATCH = 1000, 20, 60
DECADES = np.linspace(-2.0, 2.0, 13)
"""log10 of the rates."""
OCTAVES = np.linspace(-3.0, 3.0, 7)
"""log2 of the factors of Xavier's initial weights."""
FINE = 0.01
"""Spacing of the points between those of a grid, in decades or octaves."""
HIGHEST, USABLE = 10.0, 0.5
"""Loss that larger ones count as, and loss below which a rate or a scale is usable."""
LEVEL = 0.9
"""Share of test images whose steps are counted."""
WATCHED = 2000
"""Images on which loss and accuracy are measured."""
TUNING_SEEDS = (100, 101)


def network(name: str) -> nn.Module:
    """Returns the network of a case."""
    norm = batch_norm if name == WITH else no_norm
    return MLP(classes=10, widths=(100, 100, 100), activation=jax.nn.sigmoid, initializer=xavier, norm=norm)


@functools.cache
def trained(name: str) -> Callable[..., Any]:
    """Returns the compiled function (rates [R], scales [R], key, train, test, positions) -> (accuracies [R, T], losses [R]).

    Rates and scales are taken in pairs; `train` and `test` are (images, labels).
    """
    model = network(name)

    def run(lr: Array, scale: Array, key: Array, train: Any, test: Any, positions: Array) -> tuple[Array, Array]:
        params, state = side_by_side.initial(model, key, train[0])
        params = jax.tree.map(lambda leaf: leaf * scale if leaf.ndim > 1 else leaf, params)
        seen = train[0][:WATCHED], train[1][:WATCHED]

        def accuracy(params: PyTree, state: PyTree) -> Array:
            return side_by_side.scores(model, params, state, *test)[1]

        optimizer = OPTIMIZER(steps=STEPS, schedule=constant, lr=lr)
        end, watched, _ = side_by_side.train(model, optimizer, (params, state), train, positions, watch=accuracy, every=EVERY)
        return watched, side_by_side.scores(model, *end, *seen)[0]

    return jax.jit(jax.vmap(run, in_axes=(0, 0, None, None, None, None)))


@functools.cache
def data(data_dir: str | None) -> tuple[Any, Any]:
    """Returns the (images, labels) of training and of WATCHED test images, of mean 0 and standard deviation 1."""
    found = side_by_side.mnist(data_dir, 14)
    mean, deviation = found["train"][0].mean(), found["train"][0].std()
    train, test = (((pixels - mean) / deviation, labels) for pixels, labels in found.values())
    return train, (test[0][:WATCHED], test[1][:WATCHED])


@functools.cache
def curves_of(name: str, seed: int, rates: tuple[float, ...], scales: tuple[float, ...], data_dir: str | None) -> Any:
    """Trains at pairs of rates and scales; returns (steps to LEVEL f64 [R], losses f64 [R], at most HIGHEST)."""
    train, test = data(data_dir)
    positions = side_by_side.shuffled(seed, len(train[1]), BATCH, STEPS)
    with jax.numpy_dtype_promotion("standard"):  # optax counts steps in i32
        accuracies, losses = trained(name)(
            jnp.asarray(rates, jnp.float32), jnp.asarray(scales, jnp.float32), jax.random.key(seed), train, test, positions
        )
    steps = side_by_side.steps_to(LEVEL, np.asarray(accuracies).T, EVERY)  # [R, T] -> [T, R]
    found = np.asarray(losses, np.float64)
    return steps, np.where(np.isfinite(found), np.minimum(found, HIGHEST), HIGHEST)


def of_rates(name: str, seed: int, data_dir: str | None) -> Any:
    """Returns (steps, losses) of every rate of the grid, at Xavier's scale."""
    return curves_of(name, seed, tuple(10.0**DECADES), (1.0,) * len(DECADES), data_dir)


@functools.cache
def fastest_rate(name: str, data_dir: str | None) -> int:
    """Returns the number of the rate at which TUNING_SEEDS need the fewest steps, by their geometric mean."""
    steps = [np.log(of_rates(name, seed, data_dir)[0]) for seed in TUNING_SEEDS]
    losses = [np.log(of_rates(name, seed, data_dir)[1]) for seed in TUNING_SEEDS]
    return int(np.lexsort((np.mean(losses, axis=0), np.mean(steps, axis=0)))[0])  # of equal steps the lower loss


def width(grid: np.ndarray, losses: np.ndarray) -> float:
    """Returns the length of the part of a grid over which the loss is below USABLE."""
    fine = np.arange(grid[0], grid[-1], FINE)
    return FINE * float(np.sum(np.interp(fine, grid, np.log(losses)) < np.log(USABLE)))


def measure(seed: int, data_dir: str | None = None) -> Measured:
    """Trains both networks at all rates, and at all initial scales.

    Args:
        seed: seed of initial weights and order.
        data_dir: folder of prepared TFDS data sets; None: the default.
    """
    numbers: dict[str, dict[str, float]] = {metric.name: {} for metric in METRICS}
    curves = {}
    for name in (WITHOUT, WITH):
        steps, losses = of_rates(name, seed, data_dir)
        chosen = fastest_rate(name, data_dir)
        lr = float(10.0 ** DECADES[chosen])
        _, by_scale = curves_of(name, seed, (lr,) * len(OCTAVES), tuple(2.0**OCTAVES), data_dir)
        numbers["steps"][name], numbers["learning_rate"][name] = float(steps[chosen]), lr
        numbers["decades_of_rates"][name] = width(DECADES, losses)
        numbers["octaves_of_scales"][name] = width(OCTAVES, by_scale)
        numbers["lowest_loss"][name] = float(losses.min())
        curves[name] = tuple(zip((10.0**DECADES).tolist(), losses.tolist(), strict=True))
    return Measured(numbers, curves)


METRICS = (
    Metric("steps", "steps", higher_is_better=False, log_scale=True),
    Metric("decades_of_rates", "decades"),
    Metric("octaves_of_scales", "octaves"),
    Metric("lowest_loss", "nats", higher_is_better=False, log_scale=True),
    Metric("learning_rate"),
)

measurement = Measurement(
    claim="C6",
    question="Does batch normalisation train a sigmoid network faster, at more rates and from more initial scales?",
    measure=measure,
    metrics=METRICS,
    seeds=8,
    verdict=every(
        contrast(
            "C6",
            WITH,
            "better",
            "Each at its best rate, batch normalisation reaches 90 % of test images in fewer steps",
            against=WITHOUT,
            scale="log",
            smallest=float(np.log(2)),
        ),
        on(
            "decades_of_rates",
            contrast("C6", WITH, "higher", "It trains at more learning rates", against=WITHOUT, smallest=0.25),
        ),
        on(
            "octaves_of_scales",
            contrast("C6", WITH, "higher", "It trains from more initial scales", against=WITHOUT, smallest=1.0),
        ),
        requires=tuple(
            on("lowest_loss", at_most("C6", name, USABLE, f"At its best rate the network with {name} learns"))
            for name in (WITHOUT, WITH)
        ),
        scope="three layers of 100 sigmoid units, MNIST at 14x14, 1,000 steps of 60 images, plain gradient descent",
    ),
    card=Card(
        published="Ioffe and Szegedy (2015, Figure 1a) draw the test accuracy of this network on MNIST over 50,000 steps, "
        "higher with batch normalisation, and state no number; on ImageNet, with a rate 5 times as high, Inception needs 2.1 "
        "million steps in place of 31 million for an accuracy of 72.2 %.",
        would_change="A network without batch normalisation that needs less than twice as many steps at its best rate, or "
        "trains over nearly as many rates and scales.",
        deviations="Images of 14x14, 1,000 steps of a constant rate, Xavier's initial weights. The smallest effects of "
        "interest are half the steps, a quarter of a decade and an octave. Why batch normalisation helps is another claim, "
        "C47.",
        quick="--seeds=1",
        figure=Figure(x="learning rate", y="training loss after 1,000 steps in nats", log_x=True, log_y=True),
    ),
)
