"""Claim C12, methods of second order: Newton's method, conjugate gradients, L-BFGS on ill-conditioned losses, in float64.

Paper:    Hestenes, Stiefel, Methods of conjugate gradients for solving linear systems, 1952; Liu, Nocedal, On the limited
          memory BFGS method for large scale optimization, 1989; Rosenbrock, An automatic method for finding the greatest or
          least value of a function, 1960
Command:  python launch.py measure --experiment=c12_second_order
Result:   supported at small scale; docs/claims/c12.md has the numbers.

Three losses: the quadratics of c12_ill_conditioned, rotated, at condition numbers of 100, 1000 and 10,000; Rosenbrock's
function, from near its usual start; a logistic regression of 200 examples and 20 features, whose scales span a factor of 30,
with an L2 penalty of 0.001. Steps are counted, at most 5000, until all but a millionth of what the loss at the start is above
the minimum is gone.

Gradient descent, momentum of 0.9 and Adam have the constant rate that takes the fewest steps from this start, of a grid of
quarter decades, which flatters them. Conjugate gradients, L-BFGS and Newton's method have no rate. A step of these costs more,
so a second metric counts gradients: one for each step of the first three, two for conjugate gradients (a gradient, and a
product with the Hessian), those of its line search and one more for L-BFGS, and one for each parameter and one more for
Newton's method.

That conjugate gradients end after a step for each coordinate holds in exact arithmetic. An exploration on seed 0 took 25, 43
and 66 steps at the three condition numbers: at the last one rounding has spoiled the conjugacy of the directions, though they
are in float64. That is shown beside the verdict, and the seeds of the test are others.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most, identity
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import Metric
from cnnlab.ops.lbfgs import lbfgs
from cnnlab.ops.optimizers import adam, momentum, sgd
from cnnlab.ops.schedules import constant
from cnnlab.ops.second_order import conjugate_gradients, newton
from experiments.claims.c12_ill_conditioned import CONDITIONS, COORDINATES, ILL, RATES, REACHED, diagonal

EXAMPLES, FEATURES, PENALTY = 200, 20, 1e-3
"""Size of the logistic regression, and the weight of its penalty ½ |w|²."""
MOST_STEPS = {"first": 5000, "second": 200}
"""Largest number of steps that is counted, of methods of the first order and of the second."""
FIRST = ("gradient descent", "momentum 0.9", "Adam")
SECOND = ("conjugate gradients", "L-BFGS", "Newton")
SHOWN = np.unique(np.geomspace(1, MOST_STEPS["first"], 60).astype(int))
"""Steps at which the figure has a point."""

Loss = Callable[[Any, jax.Array], jax.Array]
"""(arrays that define the problem, x [D]) -> loss []."""


def quadratic(hessian: jax.Array, x: jax.Array) -> jax.Array:
    """Returns ½ xᵀ H x for hessian [D, D]."""
    return 0.5 * jnp.dot(x, hessian @ x)


def rosenbrock(steepness: jax.Array, x: jax.Array) -> jax.Array:
    """Returns (1 − x₀)² + a (x₁ − x₀²)² for the steepness a [], whose minimum is at (1, 1)."""
    return (1 - x[0]) ** 2 + steepness * (x[1] - x[0] ** 2) ** 2


def logistic(rows: jax.Array, x: jax.Array) -> jax.Array:
    """Returns the mean of log(1 + exp(−z)) over margins z = rows [N, D] x, plus the penalty; rows have the signs of labels."""
    return jnp.mean(jax.nn.softplus(-rows @ x)) + 0.5 * PENALTY * jnp.dot(x, x)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A loss with the place where the search for its minimum begins."""

    loss: Loss
    arrays: jax.Array
    """What defines it."""
    start: jax.Array
    """[D]."""


def optimizer_of(name: str, lr: Any, loss: Callable[[jax.Array], jax.Array]) -> optax.GradientTransformation:
    """Returns a method for a loss of x [D]; those of the second order have no rate."""
    made: dict[str, Callable[[], optax.GradientTransformation]] = {
        "gradient descent": lambda: sgd(steps=1, schedule=constant, lr=lr),
        "momentum 0.9": lambda: momentum(steps=1, schedule=constant, lr=lr, momentum=0.9),
        "Adam": lambda: adam(steps=1, schedule=constant, lr=lr),
        "conjugate gradients": lambda: conjugate_gradients(lambda x, v: jax.jvp(jax.grad(loss), (x,), (v,))[1]),
        "L-BFGS": lambda: lbfgs(steps=1),
        "Newton": lambda: newton(jax.hessian(loss)),
    }
    return made[name]()


@functools.cache
def followed(name: str, loss: Loss) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Returns the compiled function (rates [R], arrays, start [D]) -> (losses, gradients of the line search), f64 [R, steps].

    The losses are those after each step.
    """
    length = MOST_STEPS["first" if name in FIRST else "second"]

    def follow(lr: jax.Array, arrays: jax.Array, start: jax.Array) -> tuple[jax.Array, jax.Array]:
        value_fn = functools.partial(loss, arrays)
        optimizer = optax.with_extra_args_support(optimizer_of(name, lr, value_fn))

        def move(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], tuple[jax.Array, jax.Array]]:
            x, held = carry
            value, gradient = jax.value_and_grad(value_fn)(x)
            updates, held = optimizer.update(gradient, held, x, value=value, value_fn=value_fn)
            info = optax.tree_utils.tree_get(held, "info") if name == "L-BFGS" else None
            searched = jnp.zeros(()) if info is None else info.num_linesearch_steps * 1.0
            return (x + updates, held), (value_fn(x + updates), searched)

        found: tuple[jax.Array, jax.Array] = jax.lax.scan(move, (start, optimizer.init(start)), length=length)[1]
        return found

    return jax.jit(jax.vmap(follow, in_axes=(0, None, None)))


def counted(name: str, problem: Problem, least: float) -> tuple[float, float, np.ndarray]:
    """Returns (steps, gradients, share of the loss after each step) until REACHED, by the best rate of the grid.

    Args:
        name: the method.
        problem: the loss and the start.
        least: its minimum.
    """
    rates = RATES * (10.0 if name == "momentum 0.9" else 1.0) if name in FIRST else np.ones(1)
    losses, searched = map(np.asarray, followed(name, problem.loss)(jnp.asarray(rates), problem.arrays, problem.start))
    first = float(problem.loss(problem.arrays, problem.start))
    shares = (losses - least) / (first - least)  # [R, steps]
    is_there = shares <= REACHED  # False for a loss that is not a number
    steps = np.where(is_there.any(axis=1), is_there.argmax(axis=1) + 1, losses.shape[1])
    best = int(steps.argmin())
    taken = int(steps[best])
    each = {"conjugate gradients": 2.0, "Newton": len(problem.start) + 1.0}.get(name, 1.0)
    return float(taken), each * taken + float(searched[best, :taken].sum()), shares[best]


def problems(seed: int) -> dict[str, Problem]:
    """Returns the losses of a seed by name."""
    keys = jax.random.split(jax.random.key(seed), 6)
    rotation = jnp.linalg.qr(jax.random.normal(keys[0], (COORDINATES, COORDINATES), jnp.float64))[0]
    signs = jax.random.rademacher(keys[1], (COORDINATES,), jnp.float64)
    start = rotation @ (signs * jax.random.uniform(keys[2], (COORDINATES,), jnp.float64, 0.5, 1.5))
    found = {
        f"condition {condition}": Problem(quadratic, rotation @ diagonal(condition) @ rotation.T, start)
        for condition in CONDITIONS
    }
    near = jnp.asarray([-1.2, 1.0]) + 0.1 * jax.random.normal(keys[3], (2,), jnp.float64)
    found["Rosenbrock"] = Problem(rosenbrock, jnp.asarray(100.0), near)
    features = jax.random.normal(keys[4], (EXAMPLES, FEATURES), jnp.float64) * jnp.logspace(0.0, -1.5, FEATURES)[None]
    truth = 1 / jnp.logspace(0.0, -1.5, FEATURES)  # every feature says as much
    labels = jnp.sign(features @ truth + jax.random.logistic(keys[5], (EXAMPLES,), jnp.float64))
    found["logistic regression"] = Problem(logistic, labels[:, None] * features, jnp.zeros(FEATURES))
    return found


def measure(seed: int) -> Measured:
    """Returns the steps and gradients of all methods on the losses of a seed, and their curves at the condition ILL."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        steps: dict[str, float] = {}
        gradients: dict[str, float] = {}
        curves = {}
        for where, problem in problems(seed).items():
            # Newton's method with all its steps: the others have to come near to this.
            losses = np.asarray(followed("Newton", problem.loss)(jnp.ones(1), problem.arrays, problem.start)[0])
            least = float(losses.min()) if where == "logistic regression" else 0.0
            for name in (*FIRST, *SECOND):
                if name == "conjugate gradients" and problem.loss is not quadratic:
                    continue  # its step length is exact on quadratics alone
                case = f"{name}, {where}"
                steps[case], gradients[case], shares = counted(name, problem, least)
                if where == f"condition {ILL}":
                    points = np.maximum(shares, REACHED)
                    at = SHOWN[: np.searchsorted(SHOWN, len(shares), side="right")]
                    curves[name] = tuple(zip(at.tolist(), points[at - 1].tolist(), strict=True))
    return Measured(numbers={"steps": steps, "gradients": gradients}, curves=curves)


def _fewer(name: str, where: str, says: str, against: str = "gradient descent") -> Rule:
    return contrast("C12", f"{name}, {where}", "better", says, against=f"{against}, {where}", scale="log")


measurement = Measurement(
    claim="C12",
    question="How many steps do Newton's method, conjugate gradients and L-BFGS take where gradient descent takes thousands?",
    measure=measure,
    metrics=(
        Metric("steps", higher_is_better=False, log_scale=True),
        Metric("gradients", higher_is_better=False, log_scale=True),
    ),
    seeds=10,
    first_seed=100,
    verdict=every(
        *(
            identity(
                "C12",
                f"Newton, condition {condition}",
                1.0,
                0.0,
                f"Newton's method takes one step on a quadratic at κ = {condition:,}",
            )
            for condition in CONDITIONS
        ),
        *(
            at_most(
                "C12",
                f"conjugate gradients, condition {condition}",
                COORDINATES,
                f"Conjugate gradients take at most a step for each of {COORDINATES} coordinates at κ = {condition:,}",
            )
            for condition in CONDITIONS[:2]
        ),
        _fewer("L-BFGS", f"condition {ILL}", "L-BFGS takes fewer steps than gradient descent on a quadratic"),
        _fewer("L-BFGS", "Rosenbrock", "L-BFGS takes fewer steps than gradient descent on Rosenbrock's function"),
        _fewer("L-BFGS", "logistic regression", "L-BFGS takes fewer steps than gradient descent on a logistic regression"),
        shown=(
            at_least(
                "C12",
                f"conjugate gradients, condition {CONDITIONS[2]}",
                COORDINATES + 1,
                f"Rounding takes conjugate gradients beyond {COORDINATES} steps at κ = {CONDITIONS[2]:,}",
            ),
            _fewer("L-BFGS", f"condition {ILL}", "L-BFGS takes fewer steps than momentum on a quadratic", "momentum 0.9"),
            _fewer("L-BFGS", "Rosenbrock", "L-BFGS takes fewer steps than Adam on Rosenbrock's function", "Adam"),
            on(
                "gradients",
                _fewer("L-BFGS", "logistic regression", "L-BFGS takes fewer gradients than momentum", "momentum 0.9"),
            ),
            on(
                "gradients",
                _fewer("L-BFGS", "logistic regression", "L-BFGS takes fewer gradients than Newton's method", "Newton"),
            ),
        ),
        scope="quadratics of 50 coordinates, Rosenbrock's function of two, a logistic regression of 20 weights, full gradients",
    ),
    card=Card(
        published="Conjugate gradients reach the minimum of a quadratic of n coordinates in at most n steps (Hestenes and "
        "Stiefel 1952); Newton's method in one.",
        would_change="A step more of Newton's method or of conjugate gradients on a quadratic, or gradient descent as fast as "
        "L-BFGS.",
        quick="--seeds=2",
        figure=Figure(x="step", y="loss / loss at the start", log_x=True, log_y=True),
        deviations="The rates of the methods of the first order are the best for each start, which flatters them.",
    ),
)
