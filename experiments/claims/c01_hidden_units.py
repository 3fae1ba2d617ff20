"""Claim C1: a perceptron cannot learn XOR, a multi-layer perceptron with one hidden layer can; here: how often training does.

Paper:    M. Minsky, S. Papert, Perceptrons, 1969; D. Rumelhart, G. Hinton, R. Williams, Learning internal representations by
          error propagation, in Parallel Distributed Processing, 1986
Command:  python launch.py measure --experiment=c01_hidden_units
Result:   supported at small scale; docs/claims/c01.md has the numbers.

The networks are those of the experiment `xor`, trained by its step and its optimiser: 500 full-batch steps with momentum. An
MLP has 2, 3, 4 or 8 hidden ReLU units; each seed draws other initial weights. A run succeeds where it classifies all four
points rightly. Two units can represent XOR (c01_separable), but training finds such weights from some initial weights only: a
unit that is 0 on all four points gets no gradient, and two points of different classes may end at the same output. The controls
are Rosenblatt's perceptron and the MLP of eight units without a non-linearity: both are linear, and cannot exceed three of the
four points.

A point counts as right where its class has a probability above SURE. The first declaration counted every largest probability,
and its control failed on seeds 0 to 99: the MLP without a non-linearity ends at one half everywhere, and in 5 of 100 runs
rounding in f32 put all four points on their right side. The test was then declared again, with this threshold and seeds from
100 on.
"""

import functools
import itertools
from typing import Any

import jax
import numpy as np

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_most, more_often, success_rate
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.engine.parallel import jit
from cnnlab.engine.program import Program, build_program, stack_steps
from cnnlab.engine.train import evaluate
from cnnlab.metric import SHARE, Metric
from experiments.xor import experiment as on_xor

UNITS = {f"{units} hidden units": {"widths": str(units)} for units in (2, 3, 4, 8)}
LINEAR = {
    "8 hidden units, no non-linearity": {"widths": "8", "activation": "identity"},
    "perceptron": {"model": "linear", "loss": "perceptron"},
}


SURE = 0.51
"""Probability of its class from which a point counts as right, so that rounding around one half decides nothing."""


@functools.cache
def built(case: str) -> Program:
    """Returns the program of a case, compiled once for all seeds."""
    resolved = knobs.resolve(on_xor, (UNITS | LINEAR)[case])
    return build_program(resolved.call(), jit(jax.devices()[:1]), precision="f32")


def accuracy_after_training(case: str, seed: int) -> float:
    """Returns the share of the four points whose class is surely the right one after all steps, which are one dispatch."""
    program = built(case)
    experiment = program.experiment
    feeds: Any = stack_steps(list(itertools.islice(experiment.data.train(seed, 0), experiment.steps)))
    state, _ = program.phase_steps[0](program.init(seed), program.step_inputs("train"), feeds)
    rows = evaluate(program, state, "test")["rows"]
    return float(np.mean((rows["prediction"] == rows["label"]) & (rows["confidence"] > SURE)))


def measure(seed: int) -> Measured:
    """Trains every network from the initial weights of a seed."""
    return Measured(numbers={"accuracy": {case: accuracy_after_training(case, seed) for case in UNITS | LINEAR}})


measurement = Measurement(
    claim="C1",
    question="How often does an MLP learn XOR, by the number of its hidden units, and does any linear classifier?",
    measure=measure,
    metrics=(Metric("accuracy", SHARE, higher_is_better=True),),
    seeds=100,
    first_seed=100,
    verdict=every(
        success_rate("C1", "2 hidden units", 1.0, 0.0, "Two hidden units learn XOR from some initial weights"),
        success_rate(
            "C1", "8 hidden units", 1.0, 0.9, "Eight hidden units learn XOR from more than nine of ten initial weights"
        ),
        shown=(
            success_rate(
                "C1", "4 hidden units", 1.0, 0.5, "Four hidden units learn XOR from more than half of the initial weights"
            ),
            success_rate(
                "C1", "3 hidden units", 1.0, 0.5, "Three hidden units learn XOR from more than half of the initial weights"
            ),
            success_rate(
                "C1", "2 hidden units", 1.0, 0.5, "Two hidden units learn XOR from more than half of the initial weights"
            ),
            more_often("C1", "8 hidden units", "2 hidden units", 1.0, "Eight hidden units learn XOR more often than two"),
        ),
        requires=(
            at_most("C1", "perceptron", 0.75, "The perceptron gets at most three of the four points right"),
            at_most(
                "C1",
                "8 hidden units, no non-linearity",
                0.75,
                "Without a non-linearity the MLP gets at most three of the four points right",
            ),
        ),
        scope="the four points of XOR, ReLU units with He's initialisation, 500 full-batch steps with momentum",
    ),
    card=Card(
        published=(
            "Minsky and Papert (1969) prove that no network without a hidden layer computes XOR; Rumelhart, Hinton and "
            "Williams (1986) train networks with hidden units on it, and report that training rarely stops in a poor minimum."
        ),
        would_change="A linear classifier with all four points right, or eight hidden units that fail from one start in ten.",
        quick="--seeds=20",
        figure=Figure(y="share of the four points that are right, %"),
        deviations=(
            "ReLU units, cross-entropy and momentum in place of sigmoid units, squared errors and plain descent. A point "
            "counts as right where its class has a probability above 0.51, so linear networks, which end at one half, have 0 %."
        ),
    ),
)
