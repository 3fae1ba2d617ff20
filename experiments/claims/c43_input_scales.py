"""Claim C43: inputs of zero mean and unit variance speed training up. An MLP on MNIST, the rate tuned for every scaling.

Paper:    Y. LeCun, L. Bottou, G. B. Orr, K.-R. Müller, Efficient backprop, 1998, section 4.3; Y. LeCun, I. Kanter, S. A. Solla,
          Eigenvalues of covariance matrices: application to neural-network learning, 1991
Command:  python launch.py measure --experiment=c43_input_scales
Result:   not run yet.

An MLP with one hidden layer of 100 ReLU units learns MNIST at 14x14 in steps of 64 images from inputs of six scalings: as they
are stored (0 to 255), from 0 to 1, with the mean of all pixels taken away, divided by their standard deviation, with both, and
with an offset of 10 after both. Steps are counted until the loss on 1,000 training images is below 0.3, at most 600; a run that
is not there counts as 600.

A scaling by a number alone changes which learning rate is best, and at one rate for all it would be that which is compared. So
the rate of every scaling and optimiser is the fastest of 25, from 1e-7 to 10, a third of a decade apart, on seeds 100 and 101,
which the comparison does not use. Seeds draw initial weights and order, which all scalings share. c43_condition has the exact
half of the claim: on a quadratic loss the steps follow from the means and deviations.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np
import optax

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_most
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.analyse.verdicts import contrast
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import Array, PyTree
from cnnlab.metric import Metric
from cnnlab.models.mlp import MLP
from cnnlab.ops.optimizers import adam, sgd
from cnnlab.ops.schedules import constant
from experiments.claims import side_by_side

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"SGD": sgd, "Adam": adam}
STORED, UNIT, CENTRED, SCALED, BOTH = "0 to 255", "0 to 1", "mean 0", "deviation 1", "mean 0, deviation 1"
OFFSET = "mean 10, deviation 1"
SCALINGS = (STORED, UNIT, CENTRED, SCALED, BOTH, OFFSET)
MODEL = MLP(classes=10, widths=(100,))
RATES = tuple(10.0 ** np.linspace(-7.0, 1.0, 25))
STEPS, EVERY, BATCH = 600, 5, 64
LEVEL, WATCHED = 0.3, 1000
"""Loss to which steps are counted, and the number of training images on which it is measured."""
TUNING_SEEDS = (100, 101)
SMALLEST = float(np.log(1.2))
"""Smallest effect of interest: a sixth of the steps."""


@functools.cache
def training_images(data_dir: str | None) -> tuple[np.ndarray, np.ndarray, dict[str, tuple[float, float]]]:
    """Returns (images f32 [N, 14, 14, 1] in [0, 1], labels i32 [N], {scaling: (factor, what is added)})."""
    images, labels = side_by_side.mnist(data_dir, 14)["train"]
    mean, deviation = float(images.mean()), float(images.std())
    added = {
        STORED: (255.0, 0.0),
        UNIT: (1.0, 0.0),
        CENTRED: (1.0, -mean),
        SCALED: (1 / deviation, 0.0),
        BOTH: (1 / deviation, -mean / deviation),
        OFFSET: (1 / deviation, 10.0 - mean / deviation),
    }
    return images, labels, added


@functools.cache
def trained(optimizer: str) -> Callable[..., Array]:
    """Returns the compiled function (rates [R], factors [R], added [R], key, images, labels, positions) -> losses [R, T]."""

    def run(lr: Array, factor: Array, more: Array, key: Array, images: Array, labels: Array, positions: Array) -> Array:
        def prepare(inputs: Array) -> Array:
            return inputs * factor + more

        def loss(params: PyTree, state: PyTree) -> Array:
            return side_by_side.scores(MODEL, params, state, prepare(images[:WATCHED]), labels[:WATCHED])[0]

        rule = OPTIMIZERS[optimizer](steps=STEPS, schedule=constant, lr=lr)
        start, given = side_by_side.initial(MODEL, key, images), (images, labels)
        return side_by_side.train(MODEL, rule, start, given, positions, watch=loss, every=EVERY, prepare=prepare)[1]

    return jax.jit(jax.vmap(run, in_axes=(0, 0, 0, None, None, None, None)))


def steps_of(
    optimizer: str, seed: int, settings: list[tuple[str, float]], data_dir: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (steps f64 [R] until the loss is below LEVEL, loss [R] at the end) for every (scaling, rate) of `settings`."""
    images, labels, added = training_images(data_dir)
    positions = side_by_side.shuffled(seed, len(labels), BATCH, STEPS)
    given = [np.asarray([added[scaling][part] for scaling, _ in settings], np.float32) for part in (0, 1)]
    rates = np.asarray([lr for _, lr in settings], np.float32)
    with jax.numpy_dtype_promotion("standard"):  # optax counts steps in i32
        losses = trained(optimizer)(rates, *given, jax.random.key(seed), images, labels, positions)
    curve = -np.nan_to_num(np.asarray(losses), nan=np.inf).T  # [R, T] -> [T, R]
    return side_by_side.steps_to(-LEVEL, curve, EVERY), -curve[-1]


@functools.cache
def fastest_rate(optimizer: str, scaling: str, data_dir: str | None) -> float:
    """Returns the rate of RATES at which TUNING_SEEDS need the fewest steps, by their geometric mean.

    Of rates with equally many, such as where none reaches the loss, it is that with the lowest loss at the end.
    """
    settings = [(scaling, lr) for lr in RATES]
    found = [steps_of(optimizer, seed, settings, data_dir) for seed in TUNING_SEEDS]
    steps = np.mean([np.log(steps) for steps, _ in found], axis=0)
    return float(RATES[np.lexsort((np.mean([last for _, last in found], axis=0), steps))[0]])


def measure(seed: int, data_dir: str | None = None) -> Measured:
    """Counts the steps of every scaling and optimiser, each at the rate that was chosen for it.

    Args:
        seed: seed of initial weights and order.
        data_dir: folder of prepared TFDS data sets; None: the default.
    """
    steps: dict[str, float] = {}
    rates: dict[str, float] = {}
    for optimizer in OPTIMIZERS:
        settings = [(scaling, fastest_rate(optimizer, scaling, data_dir)) for scaling in SCALINGS]
        counts, _ = steps_of(optimizer, seed, settings, data_dir)
        for (scaling, lr), count in zip(settings, counts, strict=True):
            steps[f"{scaling}, {optimizer}"], rates[f"{scaling}, {optimizer}"] = float(count), lr
    return Measured({"steps": steps, "learning_rate": rates})


def _faster(optimizer: str, scaling: str, against: str, says: str) -> Rule:
    """Returns the part that a scaling needs fewer steps than another."""
    case, other = f"{scaling}, {optimizer}", f"{against}, {optimizer}"
    return contrast("C43", case, "better", says, against=other, scale="log", smallest=SMALLEST)


measurement = Measurement(
    claim="C43",
    question="With the best rate for each: do inputs of mean 0 and deviation 1 take fewer steps to a loss?",
    measure=measure,
    metrics=(Metric("steps", "steps", higher_is_better=False, log_scale=True), Metric("learning_rate", log_scale=True)),
    seeds=10,
    verdict=every(
        _faster("SGD", BOTH, STORED, "With SGD inputs of mean 0 and deviation 1 need fewer steps than those of 0 to 255"),
        _faster("SGD", BOTH, UNIT, "With SGD they need fewer steps than those of 0 to 1"),
        shown=(
            _faster("SGD", CENTRED, UNIT, "With SGD taking the mean away alone saves steps"),
            _faster("SGD", SCALED, UNIT, "With SGD the deviation of 1 alone saves steps"),
            _faster("SGD", BOTH, OFFSET, "With SGD an offset of 10 costs steps"),
            _faster("Adam", BOTH, STORED, "With Adam they need fewer steps than those of 0 to 255"),
            _faster("Adam", BOTH, UNIT, "With Adam they need fewer steps than those of 0 to 1"),
        ),
        requires=tuple(
            at_most("C43", f"{BOTH}, {optimizer}", STEPS - EVERY, f"With {optimizer} the loss is reached in every run")
            for optimizer in OPTIMIZERS
        ),
        scope="an MLP of 100 ReLU units on MNIST at 14x14, to a training loss of 0.3, the best of 25 constant rates for each",
    ),
    card=Card(
        published="Efficient backprop (1998, section 4.3) says that convergence is usually faster where the average of each "
        "input is near 0 and their covariances are about the same, and gives no number.",
        would_change="Inputs from 0 to 1 that need at most a fifth more steps, at their best rate, than those of mean 0 and "
        "deviation 1.",
        quick="--seeds=1",
        figure=Figure(log_x=True),
        deviations="Mean and deviation are those of all pixels together, as cnnlab scales images, not of each pixel. The "
        "initial weights are He's for every scaling, so that larger inputs also start with larger activations.",
    ),
)
