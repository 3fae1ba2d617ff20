"""Claim C9, exact part: an L1 penalty sets small weights to 0, and an L2 penalty shrinks all and shares weight between twins.

Paper:    R. Tibshirani, Regression shrinkage and selection via the lasso, 1996, section 2.2 and Figure 2; A. Y. Ng, Feature
          selection, L1 vs. L2 regularization, and rotational invariance, 2004
Command:  python launch.py measure --experiment=c09_soft_threshold
Result:   exact; docs/claims/c09.md has the numbers.

Least squares ½ |y − X w|² on an orthonormal design (XᵀX = 1), in float64: without a penalty its weights are b = Xᵀy. With
λ Σ |w| they are sign(b) max(|b| − λ, 0), the soft threshold, so that every weight with |b| < λ is 0; with λ Σ w² they are
b / (1 + 2 λ), and none is 0. Both are minimised by gradient descent with cnnlab's own penalties, L1 by its proximal step, from
random weights. L1 by the subgradient, which is what a penalty in a loss amounts to, leaves no weight at exactly 0; it is shown.

Two inputs that are always equal, such as two pixels of a border, are the other half: L2 gives both the same weight, whatever
the start, since the whole weight on one of them has a penalty twice as large. L1 has the same penalty for every way of sharing.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import Metric
from cnnlab.ops.regularizers import penalties

EXAMPLES = 200
LEAST_SQUARES = np.linspace(-3.0, 3.0, 40)
"""The weights b that least squares gives without a penalty."""
STRENGTH = 0.8
"""λ; no |b| equals it."""
ZEROS = int(np.sum(np.abs(LEAST_SQUARES) < STRENGTH))
"""Number of weights that the soft threshold sets to 0."""
STEPS, RATE = 400, 0.25
PENALTIES: dict[str, dict[str, Any]] = {
    "L1": {"l1": STRENGTH, "l1_step": "proximal"},
    "L1 by the subgradient": {"l1": STRENGTH},
    "L2": {"l2": STRENGTH},
}


@functools.cache
def minimised(name: str) -> Callable[..., jax.Array]:
    """Returns the compiled function (start f64 [F, 1], X f64 [N, F], y f64 [N, 1]) -> weights f64 [F, 1] after STEPS steps."""
    optimizer = penalties(optax.sgd(RATE), **PENALTIES[name])

    def minimise(start: jax.Array, inputs: jax.Array, targets: jax.Array) -> jax.Array:
        def step(state: Any, _: None) -> tuple[Any, None]:
            weights, held = state
            updates, held = optimizer.update(inputs.T @ (inputs @ weights - targets), held, weights)
            return (optax.apply_updates(weights, updates), held), None

        return jax.lax.scan(step, (start, optimizer.init(start)), length=STEPS)[0][0]

    return jax.jit(minimise)


def orthonormal(draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns random (X f64 [N, F], y f64 [N, 1]) with XᵀX = 1 and Xᵀy = LEAST_SQUARES."""
    inputs, _ = np.linalg.qr(draw.standard_normal((EXAMPLES, len(LEAST_SQUARES))))
    noise = draw.standard_normal((EXAMPLES, 1))
    noise -= inputs @ (inputs.T @ noise)  # the part of y that no weights explain
    return inputs, inputs @ LEAST_SQUARES[:, None] + noise


def penalised(name: str, weights: np.ndarray) -> float:
    """Returns the penalty of weights [F, 1]."""
    return STRENGTH * float(np.sum(np.abs(weights) if name == "L1" else weights**2))


def measure(seed: int) -> Measured:
    """Minimises on a random orthonormal design, and on one input that is there twice, from random weights."""
    draw = np.random.default_rng(seed)
    inputs, targets = orthonormal(draw)
    start = draw.standard_normal((len(LEAST_SQUARES), 1))
    twins = np.repeat(inputs[:, -1:], 2, axis=1)  # [N, 1] -> [N, 2], the same input twice
    first = np.array([[1.0], [0.1]]) + draw.uniform(0, 0.1, (2, 1))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        found = {name: np.asarray(minimised(name)(start, inputs, targets))[:, 0] for name in PENALTIES}
        shared = {name: np.asarray(minimised(name)(first, twins, targets)) for name in ("L1", "L2")}
    expected = {
        "L1": np.sign(LEAST_SQUARES) * np.maximum(np.abs(LEAST_SQUARES) - STRENGTH, 0.0),
        "L2": LEAST_SQUARES / (1 + 2 * STRENGTH),
    }
    whole = {name: np.array([[float(both.sum())], [0.0]]) for name, both in shared.items()}
    halves = {name: np.full((2, 1), float(both.sum()) / 2) for name, both in shared.items()}
    numbers = {
        "difference": {name: float(np.max(np.abs(found[name] - weights))) for name, weights in expected.items()},
        "zeros": {name: float(np.sum(weights == 0)) for name, weights in found.items()},
        "between_twins": {name: float(abs(both[0, 0] - both[1, 0])) for name, both in shared.items()},
        "penalty_of_one_twin": {name: penalised(name, whole[name]) / penalised(name, halves[name]) for name in shared},
    }
    curves = {"no penalty": LEAST_SQUARES} | {name: found[name] for name in ("L1", "L2")}
    return Measured(
        numbers, {name: tuple(zip(LEAST_SQUARES.tolist(), each.tolist(), strict=True)) for name, each in curves.items()}
    )


measurement = Measurement(
    claim="C9",
    question="Which weights do the penalties give where the answer is known?",
    measure=measure,
    metrics=(Metric("difference"), Metric("zeros"), Metric("between_twins"), Metric("penalty_of_one_twin")),
    seeds=20,
    verdict=every(
        identity("C9", "L1", 0.0, 1e-12, "With L1 the weights are the soft threshold of those without a penalty"),
        identity("C9", "L2", 0.0, 1e-12, "With L2 they are those without a penalty, shrunk by one factor"),
        on("zeros", identity("C9", "L1", float(ZEROS), 0.0, "L1 sets all weights below the threshold to exactly 0")),
        on("zeros", identity("C9", "L2", 0.0, 0.0, "L2 sets none to 0")),
        on("between_twins", identity("C9", "L2", 0.0, 1e-12, "Two equal inputs have equal weights with L2")),
        on(
            "penalty_of_one_twin",
            identity("C9", "L2", 2.0, 1e-12, "The whole weight on one of two equal inputs doubles the penalty of L2"),
        ),
        on(
            "penalty_of_one_twin",
            identity("C9", "L1", 1.0, 1e-12, "The penalty of L1 is the same however they share the weight"),
        ),
        shown=(
            on("zeros", identity("C9", "L1 by the subgradient", 0.0, 0.0, "The subgradient of L1 sets no weight to exactly 0")),
            on("between_twins", at_least("C9", "L1", 0.1, "Two equal inputs keep unequal weights with L1")),
        ),
        scope="least squares on an orthonormal design of 40 inputs and on one input given twice, float64",
    ),
    card=Card(
        published="Tibshirani (1996, section 2.2): on an orthonormal design the lasso is sign(b)(|b| − γ)⁺ and ridge "
        "regression b/(1 + γ).",
        would_change="A weight of L1 that differs from the soft threshold by more than 1e-12, or a weight of 0 with L2.",
        quick="--seeds=2",
        figure=Figure(x="weight without a penalty", y="weight with the penalty"),
        deviations="The squared error is halved here, so that the γ of ridge regression is 2 λ.",
    ),
)
