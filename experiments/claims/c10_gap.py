"""Claim C10: L2, dropout, early stopping and augmentation each narrow the gap between training and test. LeNet-5 on few images.

Paper:    A. Krogh, J. A. Hertz, A simple weight decay can improve generalization, 1991; N. Srivastava et al., Dropout, 2014;
          L. Prechelt, Early stopping — but when?, 1998; P. Y. Simard, D. Steinkraus, J. C. Platt, Best practices for
          convolutional neural networks applied to visual document analysis, 2003
Command:  python launch.py measure --experiment=c10_gap
Result:   supported in part; docs/claims/c10.md has the numbers.

LeNet-5 learns 1,000 images of Fashion-MNIST, which the seed draws, for 600 steps of 64 images by momentum at a constant rate of
0.02. The gap is the accuracy on these images, as they are stored and without dropout, less that on the 10,000 test images.

An untrained network has no gap, so a narrower one alone is no merit: each of the four has to narrow it, and must not lower the
test accuracy by more than half a point. Its strength is the one of two that is best on 1,000 validation images, on
seeds 100 and 101, which the test does not use, by the worse run. Early stopping keeps the network without the others as it was
when the loss on the validation images of its own seed was lowest, looked at every 50 steps.

c50_flips_digits has the control that a variation of the images can also do harm.
"""

import functools
from collections.abc import Mapping
from typing import Any

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.analyse.verdicts import bounded, contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import TrainState
from cnnlab.engine.family import Family, family, steadiest
from cnnlab.engine.family import measure as measured_on
from cnnlab.engine.in_memory import train_in_memory
from cnnlab.engine.program import Program
from cnnlab.metric import SHARE, Metric
from cnnlab.recipes.classification import classification

NONE, L2, DROPOUT, STOPPING, AUGMENTATION = "none", "L2", "dropout", "early stopping", "augmentation"
STEPS, LOOKED_AT = 600, 50
"""Steps of training, and between two looks at the validation images."""
SETTINGS: dict[str, tuple[tuple[str, float, float], ...]] = {
    NONE: (("none", 0.0, 0.0),),
    L2: (("none", 0.001, 0.0), ("none", 0.005, 0.0)),
    DROPOUT: (("none", 0.0, 0.25), ("none", 0.0, 0.5)),
    AUGMENTATION: (("shift", 0.0, 0.0), ("flip,shift", 0.0, 0.0)),
}
"""(variations of the images, weight of Σw², drop probability) that each may have."""
TUNING_SEEDS = (100, 101)
NARROWER, WORSE = 0.01, 0.005
"""Smallest effect of interest on the gap, and the margin of the test accuracy: 50 of 10,000 images."""


@functools.cache
def trained(augment: str, data_dir: str | None) -> Family:
    """Returns the compiled training of LeNet-5 with some variations of the images."""
    given = {
        "model": "lenet5",
        "data.dataset": "tfds:fashion_mnist",
        "data.batch_size": 64,
        "data.examples_per_class": 200,
        "data.examples_seed": "run",
        "data.validation": 0.5,
        "data.split_seed": "run",
        "data.augment": augment,
        "optimizer": "momentum",
        "optimizer.lr": 0.02,
        "optimizer.schedule": "constant",
        "duration": f"{STEPS} steps",
    }
    return family(knobs.resolve(classification, given, {"data_dir": data_dir}), numbers_of(0.001, 0.5))


def numbers_of(l2: float, probability: float) -> dict[str, float]:
    """Returns {path of a knob: value}."""
    return {"regularizer.l2": l2, "model.dropout": probability}


def run(setting: tuple[str, float, float], seed: int, data_dir: str | None) -> tuple[Program, Mapping[int, TrainState]]:
    """Trains with a setting; returns (its program, {step: state} every LOOKED_AT steps)."""
    augment, l2, probability = setting
    program = trained(augment, data_dir).member(numbers_of(l2, probability), seed)
    return program, train_in_memory(program, seed, at=range(LOOKED_AT, STEPS, LOOKED_AT)).states


@functools.cache
def chosen(case: str, data_dir: str | None) -> tuple[str, float, float]:
    """Returns the setting whose worse run of TUNING_SEEDS has the higher accuracy on the validation images."""
    settings = SETTINGS[case]
    if len(settings) == 1:
        return settings[0]
    found: dict[Any, list[float]] = {setting: [] for setting in settings}
    for setting in settings:
        for seed in TUNING_SEEDS:
            program, states = run(setting, seed, data_dir)
            found[setting].append(measured_on(program, states[STEPS], "validation")["accuracy"])
    return steadiest(found)


def measure(seed: int, data_dir: str | None = None) -> Measured:
    """Trains with each of the four, and with none of them.

    Args:
        seed: seed of the images, of initial weights, order, variations and dropout.
        data_dir: folder of prepared TFDS data sets; None: the default.
    """
    numbers: dict[str, dict[str, float]] = {metric.name: {} for metric in METRICS}
    curves: dict[str, tuple[tuple[float, float], ...]] = {}

    def keep(case: str, program: Program, state: TrainState) -> None:
        train, test = (measured_on(program, state, split)["accuracy"] for split in ("train", "test"))
        numbers["accuracy"][case], numbers["gap"][case] = test, train - test

    for case in SETTINGS:
        _, l2, probability = setting = chosen(case, data_dir)
        program, states = run(setting, seed, data_dir)
        keep(case, program, states[STEPS])
        losses = {step: measured_on(program, state, "validation")["loss"] for step, state in states.items()}
        curves[case] = tuple((float(step), loss) for step, loss in losses.items())
        numbers["l2"][case], numbers["drop_probability"][case] = l2, probability
        numbers["kinds_of_variations"][case] = 0.0 if setting[0] == "none" else float(len(setting[0].split(",")))
        numbers["stopped_at"][case] = float(STEPS)
        if case == NONE:
            stopped = min(losses, key=losses.__getitem__)
            keep(STOPPING, program, states[stopped])
            numbers["stopped_at"][STOPPING] = float(stopped)
    return Measured(numbers, curves)


METRICS = (
    Metric("gap", SHARE, higher_is_better=False),
    Metric("accuracy", SHARE, higher_is_better=True, is_proportion=True),
    Metric("l2"),
    Metric("drop_probability"),
    Metric("kinds_of_variations"),
    Metric("stopped_at", "steps"),
)
NAMES = {L2: "An L2 penalty", DROPOUT: "Dropout", STOPPING: "Early stopping", AUGMENTATION: "Augmentation"}


def _parts(case: str) -> tuple[Rule, Rule]:
    """Returns the two parts about one of the four."""
    name = NAMES[case]
    narrows = contrast("C10", case, "lower", f"{name} narrows the gap", against=NONE, smallest=NARROWER)
    keeps = bounded("C10", case, "not worse", WORSE, f"{name} does not lower the test accuracy", against=NONE)
    return narrows, on("accuracy", keeps)


measurement = Measurement(
    claim="C10",
    question="Do L2, dropout, early stopping and augmentation narrow the gap between training and test, at no cost?",
    measure=measure,
    metrics=METRICS,
    seeds=10,
    verdict=every(
        *(part for case in NAMES for part in _parts(case)),
        shown=tuple(
            on("accuracy", contrast("C10", case, "better", f"{NAMES[case]} raises the test accuracy", against=NONE))
            for case in NAMES
        ),
        requires=(at_least("C10", NONE, 0.05, "Without them the network over-fits in every run"),),
        scope="LeNet-5, 1,000 images of Fashion-MNIST drawn by the seed, 600 steps, 10,000 test images",
    ),
    card=Card(
        published="Srivastava et al. (2014, Table 9), MLPs on all of MNIST: 1.62 % errors with L2, 1.25 % with dropout and L2. "
        "Simard et al. (2003), a convolutional network on MNIST: 0.6 % with affine, 0.4 % with elastic distortions.",
        would_change="One of the four that leaves the gap within a point of what it is without, or costs more than half a "
        "point of test accuracy.",
        quick="--seeds=1",
        figure=Figure(x="step", y="loss on the validation images in nats", log_y=True),
        deviations="A sixtieth of the images and 600 steps at one rate. The smallest narrowing of interest is one point.",
    ),
)
