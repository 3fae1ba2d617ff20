"""Claim C43, exact part: how fast gradient descent can be follows from the inputs' means and deviations. Least squares, digits.

Paper:    Y. LeCun, I. Kanter, S. A. Solla, Eigenvalues of covariance matrices: application to neural-network learning, 1991;
          Y. LeCun, L. Bottou, G. B. Orr, K.-R. Müller, Efficient backprop, 1998, sections 4.3 and 5.1
Command:  python launch.py measure --experiment=c43_condition
Result:   exact; docs/claims/c43.md has the numbers.

The loss of a linear unit with a bias is a quadratic in its weights, whose Hessian is the second moment of its inputs, with the
1 of the bias among them: E[(x, 1)(x, 1)ᵀ]. At the best rate, 2 / (largest + smallest eigenvalue), the slowest error shrinks by
(κ − 1)/(κ + 1) in a step, where κ is the ratio of these eigenvalues. So the steps until it is a thousandth follow from the
inputs alone. The steps that gradient descent takes, from the start that is worst, are compared with that number.

The inputs are the 16 means of the 2x2 pixels of 1,000 digits, which the seed draws: as they are stored (0 to 16), from 0 to 1,
with the mean of each input taken away, with each input divided by its standard deviation, and with both. A mean far from 0
gives a large eigenvalue, inputs of unequal deviations give small ones; so κ is smallest with both. An offset of 10 after both
shows what a mean alone can do. c43_input_scales has the other half of the claim, with networks.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.data import digits
from cnnlab.metric import Metric

IMAGES = 1000
PRECISION = 1e-3
"""Share of the error at the start that is left at the end."""
STORED, UNIT, CENTRED, SCALED, BOTH = "0 to 16", "0 to 1", "0 to 1, mean 0", "deviation 1", "mean 0, deviation 1"
OFFSET = "mean 10, deviation 1"
"""Only its κ is computed: its steps would be millions."""
SHOWN = np.unique(np.logspace(0, 5, 51).astype(int))
"""Steps in the curves."""


def inputs(seed: int) -> dict[str, np.ndarray]:
    """Returns {case: inputs f64 [IMAGES, 16]} of the digits that a seed draws."""
    split = digits().splits["train"]
    chosen = np.random.default_rng(seed).choice(len(split.labels), IMAGES, replace=False)
    pixels = np.asarray(split.columns["image"][chosen], np.float64)
    stored = pixels.reshape(IMAGES, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(IMAGES, 16)  # [N, 8, 8, 1] -> [N, 4, 4] -> [N, 16]
    stored *= 16 / pixels.max()
    mean, deviation = stored.mean(axis=0), stored.std(axis=0)
    standardised = (stored - mean) / deviation
    return {
        STORED: stored,
        UNIT: stored / 16,
        CENTRED: (stored - mean) / 16,
        SCALED: stored / deviation,
        BOTH: standardised,
        OFFSET: standardised + 10.0,
    }


def second_moment(values: np.ndarray) -> np.ndarray:
    """Returns E[(x, 1)(x, 1)ᵀ] f64 [F + 1, F + 1] of inputs f64 [N, F]."""
    with_bias = np.concatenate([values, np.ones((len(values), 1))], axis=1)
    return with_bias.T @ with_bias / len(values)


@functools.cache
def descend() -> Callable[..., jax.Array]:
    """Returns the compiled function (Hessian f64 [D, D], rate [], start f64 [D]) -> steps until PRECISION is left."""

    def count(hessian: jax.Array, rate: jax.Array, start: jax.Array) -> jax.Array:
        goal = PRECISION * jnp.linalg.norm(start)

        def move(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            error, steps = state
            return error - rate * (hessian @ error), steps + 1

        return jax.lax.while_loop(lambda state: jnp.linalg.norm(state[0]) > goal, move, (start, jnp.int32(0)))[1]

    return jax.jit(count)


def compared(values: np.ndarray) -> tuple[float, float, float]:
    """Returns (κ, steps that gradient descent takes at the best rate, steps that follow from κ) for inputs f64 [N, F]."""
    hessian = second_moment(values)
    eigenvalues, vectors = np.linalg.eigh(hessian)
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
    worst = vectors[:, 0] + vectors[:, -1]  # both ends shrink by the same factor
    taken = int(descend()(hessian, 2 / (largest + smallest), worst))
    condition = largest / smallest
    return condition, taken, math.ceil(math.log(1 / PRECISION) / math.log((condition + 1) / (condition - 1)))


def measure(seed: int) -> Measured:
    """Computes κ, and counts the steps of gradient descent, for every scaling of the inputs that a seed draws."""
    scaled = inputs(seed)
    eigenvalues = np.linalg.eigvalsh(second_moment(scaled[OFFSET]))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        found = {case: compared(values) for case, values in scaled.items() if case != OFFSET}
    conditions = {case: condition for case, (condition, _, _) in found.items()}
    numbers = {
        "condition": conditions | {OFFSET: float(eigenvalues[-1] / eigenvalues[0])},
        "steps": {case: float(taken) for case, (_, taken, _) in found.items()},
        "steps_beyond_prediction": {case: float(taken - expected) for case, (_, taken, expected) in found.items()},
    }
    curves = {
        case: tuple((float(step), ((condition - 1) / (condition + 1)) ** int(step)) for step in SHOWN)
        for case, condition in conditions.items()
    }
    return Measured(
        numbers, {case: tuple(point for point in line if point[1] > PRECISION / 10) for case, line in curves.items()}
    )


measurement = Measurement(
    claim="C43",
    question="How does the speed of gradient descent follow from the means and deviations of the inputs?",
    measure=measure,
    metrics=(
        Metric("condition", log_scale=True, higher_is_better=False),
        Metric("steps", "steps", log_scale=True, higher_is_better=False),
        Metric("steps_beyond_prediction", "steps"),
    ),
    seeds=10,
    verdict=every(
        *(
            on(
                "steps_beyond_prediction",
                identity("C43", case, 0.0, 1.0, f"With inputs of {case} the steps follow from the condition number"),
            )
            for case in (STORED, UNIT, CENTRED, SCALED, BOTH)
        ),
        *(
            at_most("C43", BOTH, case, f"Inputs of mean 0 and deviation 1 have a smaller condition number than {case}")
            for case in (STORED, UNIT, CENTRED, SCALED)
        ),
        shown=(
            at_most("C43", CENTRED, UNIT, "Taking the mean away alone lowers the condition number of inputs from 0 to 1"),
            at_least("C43", OFFSET, 1e5, "After both, a mean of 10 alone makes it larger than 100,000"),
        ),
        scope="least squares with 16 inputs and a bias, 1,000 digits drawn by the seed, the best constant rate",
    ),
    card=Card(
        published="LeCun et al. (1991) and Efficient backprop (1998): inputs whose mean is not 0 make one large eigenvalue, "
        "and inputs of unequal variance spread the others; no number for these data.",
        would_change="A count of steps that differs from the prediction by more than one, or another of these scalings with a "
        "smaller condition number.",
        quick="--seeds=2",
        figure=Figure(
            title="Inputs of mean 0 and deviation 1 take the fewest steps",
            x="step",
            y="share of the error that is left",
            log_x=True,
            log_y=True,
        ),
        deviations="A quadratic loss, from the start that is worst, at the rate that is best for it: in a network the Hessian "
        "changes, and the rate has to be found.",
    ),
)
