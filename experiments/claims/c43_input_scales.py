"""Claim C43: inputs of zero mean and unit variance speed training up. An MLP on MNIST, the rate tuned for every scaling.

Paper:    Y. LeCun, L. Bottou, G. B. Orr, K.-R. Müller, Efficient backprop, 1998, section 4.3; Y. LeCun, I. Kanter, S. A. Solla,
          Eigenvalues of covariance matrices: application to neural-network learning, 1991
Command:  python launch.py measure --experiment=c43_input_scales
Result:   supported at small scale; docs/claims/c43.md has the numbers.

An MLP with one hidden layer of 100 ReLU units learns MNIST at 14x14 in steps of 64 images from inputs of six scalings: as they
are stored (0 to 255), from 0 to 1, with the mean of all pixels taken away, divided by their standard deviation, with both, and
with an offset of 10 after both. Steps are counted until the loss of the batches, its mean over the last 32 steps, is at most
0.3; there are 600, and a run that is not there counts as 600. They show 38,400 of the 60,000 images, each once: the loss of a
batch, which is taken before its step, is that of images which the network has not seen.

A scaling by a number alone changes which learning rate is best, and at one rate for all it would be that which is compared. So
the rate of every scaling and optimiser is the fastest of 25, from 1e-7 to 10, a third of a decade apart, on seeds 100 and 101,
which the comparison does not use. Seeds draw initial weights and order, which all scalings share. c43_condition has the exact
half of the claim: on a quadratic loss the steps follow from the means and deviations.
"""

import functools
from collections.abc import Sequence

import numpy as np

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_most
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.analyse.verdicts import contrast
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.engine.family import Family, family, steps_to
from cnnlab.engine.in_memory import train_together
from cnnlab.metric import Metric
from cnnlab.recipes.classification import classification

OPTIMIZERS = ("SGD", "Adam")
STORED, UNIT, CENTRED, SCALED, BOTH = "0 to 255", "0 to 1", "mean 0", "deviation 1", "mean 0, deviation 1"
OFFSET = "mean 10, deviation 1"
SCALINGS = (STORED, UNIT, CENTRED, SCALED, BOTH, OFFSET)
RATES = tuple(10.0 ** np.linspace(-7.0, 1.0, 25))
STEPS, EVERY, OVER = 600, 8, 4
"""Steps of training, steps between two entries of the log, and entries over which the loss is averaged."""
LEVEL = 0.3
"""Loss to which steps are counted."""
TUNING_SEEDS = (100, 101)
SMALLEST = float(np.log(1.2))
"""Smallest effect of interest: a sixth of the steps."""
LR = "optimizer.lr"
PIXELS = {"data.dataset": "tfds:mnist", "data.image_size": 14, "data.validation": 0.0}


@functools.cache
def statistics(data_dir: str | None) -> tuple[float, float]:
    """Returns (mean, standard deviation) of all pixels of the training images, on the scale of [0, 1]."""
    inputs = knobs.resolve(classification, PIXELS, {"data_dir": data_dir}).call().data.inputs
    return float(inputs.subtract.item()) / 255, float(inputs.divide.item()) / 255


def subtracted_and_divided_by(scaling: str, data_dir: str | None) -> tuple[float, float]:
    """Returns what a scaling subtracts from the pixels in [0, 1], and what it then divides by."""
    mean, deviation = statistics(data_dir)
    return {
        STORED: (0.0, 1 / 255),
        UNIT: (0.0, 1.0),
        CENTRED: (mean, 1.0),
        SCALED: (0.0, deviation),
        BOTH: (mean, deviation),
        OFFSET: (mean - 10 * deviation, deviation),
    }[scaling]


@functools.cache
def trained(optimizer: str, scaling: str, data_dir: str | None) -> Family:
    """Returns the compiled training from inputs of a scaling, whatever the rate."""
    subtracted, divisor = subtracted_and_divided_by(scaling, data_dir)
    given = PIXELS | {
        "model": "mlp",
        "model.widths": "100",
        "data.batch_size": 64,
        "data.normalize": "fixed",
        "data.normalize.mean": f"{subtracted!r}",
        "data.normalize.std": f"{divisor!r}",
        "optimizer": optimizer.lower(),
        "optimizer.schedule": "constant",
        "duration": f"{STEPS} steps",
    }
    return family(knobs.resolve(classification, given, {"data_dir": data_dir}), {LR: 0.1})


def steps_of(
    optimizer: str, scaling: str, members: Sequence[tuple[float, int]], data_dir: str | None
) -> list[tuple[float, float]]:
    """Returns (steps until the loss is LEVEL, loss at the end) for every (rate, seed) of `members`, trained side by side.

    The loss is infinite where it is not finite; a run that is not at LEVEL has STEPS.
    """
    programs = [trained(optimizer, scaling, data_dir).member({LR: lr}, seed) for lr, seed in members]
    seeds = [seed for _, seed in members]
    found = []
    for one in train_together(programs, seeds, log_every=EVERY, steps_per_dispatch=EVERY):
        losses = {step: summary["loss"] for step, summary in one.logged.items()}
        last = float(np.mean(list(losses.values())[-OVER:]))
        found.append((float(steps_to(LEVEL, losses, over=OVER)), last if np.isfinite(last) else np.inf))
    return found


@functools.cache
def fastest_rate(optimizer: str, scaling: str, data_dir: str | None) -> float:
    """Returns the rate of RATES at which TUNING_SEEDS need the fewest steps, by their geometric mean.

    Of rates with equally many, such as where none reaches the loss, it is that with the lowest loss at the end.
    """
    members = [(lr, seed) for lr in RATES for seed in TUNING_SEEDS]
    # [R · seeds, 2] -> [R, seeds, 2]
    found = np.asarray(steps_of(optimizer, scaling, members, data_dir)).reshape(len(RATES), len(TUNING_SEEDS), 2)
    return float(RATES[np.lexsort((found[:, :, 1].mean(axis=1), np.log(found[:, :, 0]).mean(axis=1)))[0]])


def measure(seed: int, data_dir: str | None = None) -> Measured:
    """Counts the steps of every scaling and optimiser, each at the rate that was chosen for it.

    Args:
        seed: seed of initial weights and order.
        data_dir: folder of prepared TFDS data sets; None: the default.
    """
    steps: dict[str, float] = {}
    rates: dict[str, float] = {}
    for optimizer in OPTIMIZERS:
        for scaling in SCALINGS:
            case, lr = f"{scaling}, {optimizer}", fastest_rate(optimizer, scaling, data_dir)
            ((steps[case], _),) = steps_of(optimizer, scaling, [(lr, seed)], data_dir)
            rates[case] = lr
    too_few = [case for case, taken in steps.items() if taken == STEPS]  # they were not there, or only just
    return Measured({"steps": steps, "learning_rate": rates}, lower_bounds={"steps": too_few})


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
        scope="an MLP of 100 ReLU units on MNIST at 14x14, to a loss of batches of 0.3, the best of 25 constant rates for each",
    ),
    card=Card(
        published="Efficient backprop (1998, section 4.3) says that convergence is usually faster where the average of each "
        "input is near 0 and their covariances are about the same, and gives no number.",
        would_change="Inputs from 0 to 1 that need at most a fifth more steps, at their best rate, than those of mean 0 and "
        "deviation 1.",
        quick="--seeds=1",
        figure=Figure(log_x=True),
        deviations="Mean and deviation are those of all pixels together, as cnnlab scales images, not of each pixel. The "
        "initial weights are He's for every scaling, so that larger inputs also start with larger activations. Before any run "
        "the loss of the batches replaced that of 1,000 training images, which was to be measured every 5 steps.",
    ),
)
