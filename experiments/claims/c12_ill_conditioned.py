"""Claim C12: momentum and Adam speed up descent on an ill-conditioned loss, and AdaGrad's rate decays. Quadratics in float64.

Paper:    Polyak, Some methods of speeding up the convergence of iteration methods, 1964; Duchi, Hazan, Singer, Adaptive
          subgradient methods, 2011; Kingma, Ba, Adam, 2015, arXiv 1412.6980
Command:  python launch.py measure --experiment=c12_ill_conditioned
Result:   supported at small scale; docs/claims/c12.md has the numbers.

The loss is ½ xᵀ H x over 50 coordinates; the eigenvalues of H are evenly spaced on a logarithmic axis from 1/κ to 1, where κ
is the condition number. The start is 0.5 to 1.5 along every eigenvector, drawn with its sign by the seed, so that no
direction is missing from it by chance. Steps are counted until the loss is a millionth of that at the start. Gradient descent
and the heavy ball have the constant parameters that are optimal for a quadratic (Polyak 1964). Adam and momentum of 0.9 have
the rate that takes the fewest steps from this start, of a grid of quarter decades. A rotation turns H and the start together
by a random orthogonal matrix, which changes nothing for gradient descent and momentum.

Adam has momentum and a rate for each coordinate. Along the axes the rates undo the condition number. After a rotation they
cannot, and Adam without momentum (β1 = 0) shows what they still do: it is compared with gradient descent at κ = 1000, where
the claim is tested, and at κ = 10,000. All optimisers are those of cnnlab.ops.optimizers.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, identity
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import Metric
from cnnlab.ops.optimizers import adagrad, adam, momentum, sgd
from cnnlab.ops.schedules import constant

COORDINATES = 50
CONDITIONS = (100, 1000, 10_000)
"""Condition numbers at which gradient descent and the heavy ball are compared."""
ILL = 1000
"""Condition number at which Adam is compared."""
OPTIMAL = {"gradient descent": "gradient descent", "heavy ball": "momentum"}
"""{case: rule} of the optimisers whose parameters follow from the condition number."""
DESCENT = f"gradient descent, condition {ILL}"
REACHED = 1e-6
"""Share of the loss at the start at which steps are no longer counted."""
MOST_STEPS = 50_000
RATES = 10.0 ** np.arange(-4.0, 0.75, 0.25)
"""Learning rates of which Adam has the best; momentum of 0.9 has those ten times as large."""
SHOWN = np.unique(np.geomspace(1, 4000, 60).astype(int))
"""Steps at which the figure has a point."""

RULES: dict[str, Callable[[Any, Any], optax.GradientTransformation]] = {
    "gradient descent": lambda lr, kept: sgd(steps=1, schedule=constant, lr=lr),
    "momentum": lambda lr, kept: momentum(steps=1, schedule=constant, lr=lr, momentum=kept),
    "Adam": lambda lr, kept: adam(steps=1, schedule=constant, lr=lr, b1=kept),
}
"""{name: function of the learning rate and the share of the momentum that is kept}."""


def loss(hessian: jax.Array, x: jax.Array) -> jax.Array:
    """Returns ½ xᵀ H x for x [D] and hessian [D, D]."""
    return 0.5 * jnp.dot(x, hessian @ x)


@functools.cache
def counted_steps(name: str) -> Callable[..., jax.Array]:
    """Returns the compiled function (rates [R], kept [], hessian, start) -> steps i32 [R] until REACHED, at most MOST_STEPS."""

    def count(lr: jax.Array, kept: jax.Array, hessian: jax.Array, start: jax.Array) -> jax.Array:
        optimizer, aim = RULES[name](lr, kept), REACHED * loss(hessian, start)

        def goes_on(state: tuple[jax.Array, optax.OptState, jax.Array]) -> jax.Array:
            return (loss(hessian, state[0]) > aim) & (state[2] < MOST_STEPS)

        def move(state: tuple[jax.Array, optax.OptState, jax.Array]) -> tuple[jax.Array, optax.OptState, jax.Array]:
            x, held, step = state
            updates, held = optimizer.update(hessian @ x, held, x)
            return x + updates, held, step + 1

        return jax.lax.while_loop(goes_on, move, (start, optimizer.init(start), jnp.int32(0)))[2]

    return jax.jit(jax.vmap(count, in_axes=(0, None, None, None)))


@functools.cache
def followed(name: str) -> Callable[..., jax.Array]:
    """Returns the compiled function (rate [], kept [], hessian, start) -> points f64 [4000, D] after each step."""

    def follow(lr: jax.Array, kept: jax.Array, hessian: jax.Array, start: jax.Array) -> jax.Array:
        optimizer = RULES[name](lr, kept)

        def move(state: tuple[jax.Array, optax.OptState], _: None) -> tuple[tuple[jax.Array, optax.OptState], jax.Array]:
            x, held = state
            updates, held = optimizer.update(hessian @ x, held, x)
            return (x + updates, held), x + updates

        return jax.lax.scan(move, (start, optimizer.init(start)), length=int(SHOWN[-1]))[1]

    return jax.jit(follow)


def diagonal(condition: float) -> jax.Array:
    """Returns the Hessian f64 [D, D] along the axes, with eigenvalues from 1 / condition to 1."""
    return jnp.diag(jnp.logspace(-math.log10(condition), 0.0, COORDINATES))


def optimal(name: str, condition: float) -> tuple[float, float]:
    """Returns the (rate, kept momentum) that are optimal for eigenvalues from 1 / condition to 1 (Polyak 1964)."""
    if name == "gradient descent":
        return 2 / (1 + 1 / condition), 0.0
    root = 1 / math.sqrt(condition)
    return 4 / (1 + root) ** 2, ((1 - root) / (1 + root)) ** 2


def contraction(name: str, lr: float, kept: float, hessian: jax.Array) -> float:
    """Returns the factor by which the error shrinks in a step in the end: the spectral radius of the optimiser's own step."""

    def step(x: jax.Array, velocity: jax.Array) -> tuple[jax.Array, jax.Array]:
        optimizer = RULES[name](jnp.asarray(lr), jnp.asarray(kept))
        held = jax.tree.map(lambda leaf: velocity if leaf.ndim else leaf, optimizer.init(x))
        updates, held = optimizer.update(hessian @ x, held, x)
        return x + updates, next((leaf for leaf in jax.tree.leaves(held) if leaf.ndim), jnp.zeros_like(velocity))

    zeros = jnp.zeros(COORDINATES)
    blocks = jax.jit(jax.jacfwd(step, argnums=(0, 1)))(zeros, zeros)  # 2 x 2 blocks [D, D] of a linear map
    return float(np.abs(np.linalg.eigvals(np.block([[np.asarray(block) for block in row] for row in blocks]))).max())


def exponent(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the slope of the least-squares line of log y on log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def exponent_of_step(optimizer: optax.GradientTransformation) -> float:
    """Returns a where the size of step t along a constant gradient is ∝ t^a, of 1000 steps."""
    gradient = jnp.logspace(-3.0, 3.0, COORDINATES)  # coordinates of very different scale

    def move(held: optax.OptState, _: None) -> tuple[optax.OptState, jax.Array]:
        updates, held = optimizer.update(gradient, held, gradient)
        return held, jnp.linalg.norm(updates)

    sizes = jax.jit(lambda: jax.lax.scan(move, optimizer.init(gradient), length=1000)[1])()
    return exponent(np.arange(1, 1001), np.asarray(sizes))


@functools.cache
def without_seed() -> tuple[dict[str, float], dict[str, float]]:
    """Returns ({case: exponent_of_step}, {case: contraction}), in which nothing is random."""
    exponents = {
        "AdaGrad's step": exponent_of_step(adagrad(steps=1, schedule=constant, lr=0.1)),
        "Adam's step": exponent_of_step(adam(steps=1, schedule=constant, lr=0.1)),
    }
    factors = {case: contraction(name, *optimal(name, ILL), diagonal(ILL)) for case, name in OPTIMAL.items()}
    return exponents, factors


def measure(seed: int) -> Measured:
    """Returns the numbers of one start and one rotation."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        keys = jax.random.split(jax.random.key(seed), 3)
        signs = jax.random.rademacher(keys[0], (COORDINATES,), jnp.float64)
        start = signs * jax.random.uniform(keys[2], (COORDINATES,), jnp.float64, 0.5, 1.5)
        rotation = jnp.linalg.qr(jax.random.normal(keys[1], (COORDINATES, COORDINATES), jnp.float64))[0]
        exponents, factors = without_seed()
        steps = {}
        for case, name in OPTIMAL.items():
            for condition in CONDITIONS:
                lr, kept = optimal(name, condition)
                found = counted_steps(name)(jnp.asarray([lr]), kept, diagonal(condition), start)
                steps[f"{case}, condition {condition}"] = float(found[0])
        tuned, curves = compare_at_ill_condition(start, rotation)
        numbers = {
            "steps": steps | tuned,
            "contraction": factors,
            "ratio_by_root": {
                f"condition {condition}": steps[f"gradient descent, condition {condition}"]
                / steps[f"heavy ball, condition {condition}"]
                / math.sqrt(condition)
                for condition in CONDITIONS
            },
            "exponent": exponents | {case: growth(case, steps) for case in OPTIMAL},
            "path_difference": path_differences(start, rotation),
        }
    return Measured(numbers=numbers, curves=curves)


def growth(case: str, steps: dict[str, float]) -> float:
    """Returns a where the steps of a case are ∝ κ^a."""
    return exponent(np.array(CONDITIONS), np.array([steps[f"{case}, condition {condition}"] for condition in CONDITIONS]))


def compare_at_ill_condition(
    start: jax.Array, rotation: jax.Array
) -> tuple[dict[str, float], dict[str, tuple[tuple[float, float], ...]]]:
    """Returns the steps of the optimisers with a tuned rate, along the axes and rotated, and curves of the loss by step."""
    along, rotated = (diagonal(ILL), start), (rotation @ diagonal(ILL) @ rotation.T, rotation @ start)
    # {case: (rule, rate, kept momentum, Hessian, start)}
    lines: dict[str, tuple] = {case: (name, *optimal(name, ILL), *along) for case, name in OPTIMAL.items()}
    steps = {}
    for case, name, kept in (("Adam", "Adam", 0.9), ("Adam, β1 = 0", "Adam", 0.0), ("momentum 0.9", "momentum", 0.9)):
        rates = RATES * (10.0 if name == "momentum" else 1.0)
        for where, problem in (("along the axes", along), ("rotated", rotated)):
            counts = np.asarray(counted_steps(name)(jnp.asarray(rates), kept, *problem))
            steps[f"{case}, {where}"] = float(counts.min())
            lines[f"{case}, {where}"] = (name, float(rates[counts.argmin()]), kept, *problem)
    worst = rotation @ diagonal(CONDITIONS[-1]) @ rotation.T
    counts = np.asarray(counted_steps("Adam")(jnp.asarray(RATES), 0.0, worst, rotation @ start))
    steps[f"Adam, β1 = 0, rotated, condition {CONDITIONS[-1]}"] = float(counts.min())
    curves = {}
    for label in (*OPTIMAL, "Adam, along the axes", "Adam, rotated", "Adam, β1 = 0, rotated"):
        name, lr, kept, hessian, begun = lines[label]
        points = followed(name)(lr, kept, hessian, begun)[SHOWN - 1]  # [4000, D] at [60] -> [60, D]
        shares = jax.vmap(functools.partial(loss, hessian))(points) / loss(hessian, begun)
        # From where the count of steps ends the line is level: at a constant rate Adam's loss rises again later.
        level = np.maximum.accumulate(np.asarray(shares) <= REACHED)
        curves[label] = tuple(zip(SHOWN.tolist(), np.where(level, REACHED, shares).tolist(), strict=True))
    return steps, curves


def path_differences(start: jax.Array, rotation: jax.Array) -> dict[str, float]:
    """Returns how far Adam's path at the condition ILL is from that at 1, as a share of the scale of the start."""
    far = 1e6 * start  # gradients of a millionth of this are still large against Adam's epsilon of 1e-8
    differences = {}
    for where, basis in (("along the axes", jnp.eye(COORDINATES)), ("rotated", rotation)):
        even, ill = (
            followed("Adam")(3e4, 0.9, basis @ diagonal(condition) @ basis.T, basis @ far)[:100] for condition in (1, ILL)
        )
        differences[f"Adam, {where}"] = float(jnp.abs(even - ill).max()) / 1e6
    return differences


def _faster(case: str, says: str) -> Rule:
    return contrast("C12", case, "better", says, against=DESCENT, scale="log")


measurement = Measurement(
    claim="C12",
    question="Do momentum and Adam need fewer steps than gradient descent on an ill-conditioned loss, and when does Adam not?",
    measure=measure,
    metrics=(
        Metric("steps", higher_is_better=False, log_scale=True),
        Metric("contraction", higher_is_better=False),
        Metric("ratio_by_root"),
        Metric("exponent"),
        Metric("path_difference", higher_is_better=False, log_scale=True),
    ),
    seeds=10,
    verdict=every(
        on(
            "contraction",
            identity("C12", "gradient descent", (ILL - 1) / (ILL + 1), 1e-9, "Gradient descent contracts by (κ − 1) / (κ + 1)"),
        ),
        on(
            "contraction",
            identity(
                "C12",
                "heavy ball",
                (math.sqrt(ILL) - 1) / (math.sqrt(ILL) + 1),
                1e-6,
                "The heavy ball contracts by (√κ − 1) / (√κ + 1)",
            ),
        ),
        on(
            "ratio_by_root",
            identity(
                "C12", "condition 1000", 0.5, 0.15, "Gradient descent takes about √κ / 2 times the steps of the heavy ball"
            ),
        ),
        _faster("Adam, along the axes", "Along the axes Adam takes fewer steps than gradient descent"),
        on(
            "path_difference",
            identity("C12", "Adam, along the axes", 0.0, 1e-6, "Along the axes Adam's path does not depend on κ"),
        ),
        contrast(
            "C12",
            "Adam, rotated",
            "worse",
            "After a rotation Adam takes more steps than along the axes",
            against="Adam, along the axes",
            scale="log",
        ),
        _faster("Adam, β1 = 0, along the axes", "Along the axes Adam without momentum takes fewer steps than gradient descent"),
        contrast(
            "C12",
            "Adam, β1 = 0, rotated",
            "worse",
            "After a rotation Adam without momentum takes more steps than gradient descent, at κ = 1000",
            against=DESCENT,
            scale="log",
        ),
        on("exponent", identity("C12", "AdaGrad's step", -0.5, 1e-9, "AdaGrad's step along a constant gradient is ∝ 1 / √t")),
        shown=(
            _faster("Adam, rotated", "After a rotation Adam with its momentum still takes fewer steps than gradient descent"),
            contrast(
                "C12",
                "Adam, β1 = 0, rotated, condition 10000",
                "worse",
                "After a rotation Adam without momentum takes more steps than gradient descent, at κ = 10,000 too",
                against="gradient descent, condition 10000",
                scale="log",
            ),
            contrast(
                "C12",
                "Adam, rotated",
                "worse",
                "After a rotation Adam takes more steps than momentum of 0.9",
                against="momentum 0.9, rotated",
                scale="log",
            ),
            on("exponent", identity("C12", "Adam's step", 0.0, 1e-9, "Adam's step along a constant gradient keeps its size")),
        ),
        requires=(
            on(
                "path_difference",
                at_least("C12", "Adam, rotated", 0.01, "After a rotation the path depends on κ (the control)"),
            ),
        ),
        scope="quadratics of 50 coordinates in float64, exact gradients",
    ),
    card=Card(
        published="Polyak (1964) proves that the heavy ball contracts by (√κ − 1) / (√κ + 1) a step where gradient descent "
        "contracts by (κ − 1) / (κ + 1). Duchi et al. (2011) divide by the root of the summed squares of the gradient, "
        "which is ∝ √t for a constant one.",
        would_change="Another contraction; a ratio of the steps outside 0.35 to 0.65 √κ; a path of Adam along the axes that "
        "depends on κ; a rotated Adam without momentum that is ahead of gradient descent at κ = 1000.",
        quick="--seeds=2",
        figure=Figure(x="step", y="loss / loss at the start", log_x=True, log_y=True),
        deviations="The rates of Adam and momentum of 0.9 are the best for each start, which flatters both. At a constant rate "
        "Adam's loss rises again some hundred steps after it has reached a millionth; the curves stop there.",
    ),
)
