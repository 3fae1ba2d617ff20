"""Claim C49: finite differences cost a forward pass for each parameter, back-propagation a constant number of passes. MLPs.

Paper:    Rumelhart, Hinton, Williams, Learning representations by back-propagating errors, 1986; Baydin, Pearlmutter, Radul,
          Siskind, Automatic differentiation in machine learning: a survey, 2018, arXiv 1502.05767, section 3.2
Command:  python launch.py measure --experiment=c49_finite_differences
Result:   exact; docs/claims/c49.md has the numbers.

The cost is the number of floating-point operations that XLA counts in the program (`cost_analysis`), as a multiple of those
of one evaluation of the loss: cross-entropy of an MLP of cnnlab with two hidden layers of tanh, on 16 images. The finite
differences are written as every tutorial does, f(w + h e_i) − f(w) for each parameter i, with one evaluation more for f(w);
central differences take two for each. Evaluations are counted by the program that makes them, which is a loop over a function
that counts its calls. Back-propagation is jax.value_and_grad.

That both give the same gradient is measured in float64 with central differences, whose error is ∝ h² until rounding, ∝ 1 / h,
becomes larger; h is 1e-5. The units are tanh, since a difference across the kink of a ReLU is no derivative.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_most, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import Metric
from cnnlab.models.mlp import MLP
from cnnlab.ops.losses import cross_entropy

WIDTHS = (2, 8, 32, 128, 512)
"""Units of each of the two hidden layers."""
CARRIED_OUT = (2, 8, 32)
"""Widths at which the operations of finite differences are counted; at the second the gradients are compared."""
IMAGES = 16
CLASSES = 10
STEP = 1e-5


def loss_of_parameters(width: int, seed: int) -> tuple[Callable[[jax.Array], jax.Array], np.ndarray]:
    """Returns the loss as a function of all parameters in one vector f64 [P], and a random such vector."""
    model, draw = MLP(CLASSES, (width, width), jnp.tanh), np.random.default_rng(seed)
    images = draw.normal(size=(IMAGES, 8, 8, 1))
    labels = jnp.asarray(draw.integers(0, CLASSES, IMAGES), jnp.int32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)
    # Weights of variance 1 / fan-in and small random biases.
    drawn = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape) / np.sqrt(max(leaf.shape[0], 10)), shapes)
    vector, unravel = ravel_pytree(drawn)

    def loss(parameters: jax.Array) -> jax.Array:
        return jnp.mean(cross_entropy(model.apply(unravel(parameters), images, train=False)[0], labels))

    return loss, np.asarray(vector)


def forward_differences(loss: Callable[[Any], Any], at: np.ndarray) -> np.ndarray:
    """Returns the gradient f64 [P] by one evaluation for each parameter and one at the point itself."""
    here, gradient = loss(at), np.zeros_like(at)
    for place in range(len(at)):
        moved = at.copy()
        moved[place] += STEP
        gradient[place] = (loss(moved) - here) / STEP
    return gradient


def central_differences(loss: Callable[[Any], Any], at: np.ndarray) -> np.ndarray:
    """Returns the gradient f64 [P] by two evaluations for each parameter."""
    gradient = np.zeros_like(at)
    for place in range(len(at)):
        up, down = at.copy(), at.copy()
        up[place] += STEP
        down[place] -= STEP
        gradient[place] = (loss(up) - loss(down)) / (2 * STEP)
    return gradient


class Counted:
    """A function that counts its calls."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function, self.calls = function, 0

    def __call__(self, at: Any) -> Any:
        """Returns the function's value."""
        self.calls += 1
        return self.function(at)


def operations(function: Callable[..., Any], *shapes: jax.ShapeDtypeStruct) -> float:
    """Returns the floating-point operations of the compiled program, as XLA counts them."""
    analysis: Any = jax.jit(function).lower(*shapes).compile().cost_analysis()
    return float(analysis["flops"])


@functools.cache
def costs(width: int) -> dict[str, float]:
    """Returns the operations of programs, as multiples of those of one evaluation of the loss, and the number of parameters."""
    loss, vector = loss_of_parameters(width, seed=0)
    one = jax.ShapeDtypeStruct(vector.shape, vector.dtype)
    forward = operations(loss, one)
    found = {"parameters": float(len(vector)), "back-propagation": operations(jax.value_and_grad(loss), one) / forward}
    if width in CARRIED_OUT:
        # All evaluations of forward differences as one program, so that XLA counts them: [P + 1, P] moved parameters.
        many = jax.ShapeDtypeStruct((len(vector) + 1, len(vector)), vector.dtype)
        found["finite differences"] = operations(jax.vmap(loss), many) / forward
    return found


def measure(seed: int) -> Measured:
    """Returns the costs, in which nothing is random, and how far the gradients at random parameters differ."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        found = {width: costs(width) for width in WIDTHS}
        loss, vector = loss_of_parameters(CARRIED_OUT[1], seed)
        compiled = jax.jit(loss)
        forward, central = Counted(compiled), Counted(compiled)
        exact = np.asarray(jax.jit(jax.grad(loss))(vector))
        gradients = {
            "forward differences": forward_differences(forward, vector),
            "central differences": central_differences(central, vector),
        }
    backward = {_case(one["parameters"]): one["back-propagation"] for one in found.values()}
    errors = {case: float(np.abs(one - exact).max() / np.abs(exact).max()) for case, one in gradients.items()}
    numbers = {
        "cost": backward | {"the dearest": max(backward.values())},
        "evaluations": {
            "forward differences": float(forward.calls),
            "central differences": float(central.calls),
            "parameters + 1": len(vector) + 1.0,
            "2 x parameters": 2.0 * len(vector),
        },
        "error": errors,
        "operations_by_evaluation": {
            _case(one["parameters"]): one["finite differences"] / (one["parameters"] + 1)
            for one in found.values()
            if "finite differences" in one
        },
    }
    curves = {
        label: tuple((one["parameters"], one[label]) for one in found.values() if label in one)
        for label in ("finite differences", "back-propagation")
    }
    return Measured(numbers, curves)


def _case(parameters: float) -> str:
    return f"{parameters:,.0f} parameters"


measurement = Measurement(
    claim="C49",
    question="What does the gradient cost by finite differences and by back-propagation, and do they agree?",
    measure=measure,
    metrics=(
        Metric("cost", "evaluations", higher_is_better=False, log_scale=True),
        Metric("evaluations", higher_is_better=False),
        Metric("error", higher_is_better=False, log_scale=True),
        Metric("operations_by_evaluation", higher_is_better=False),
    ),
    seeds=5,
    verdict=every(
        on(
            "evaluations",
            identity(
                "C49", "forward differences", "parameters + 1", 0.0, "Forward differences evaluate once for each parameter"
            ),
        ),
        on(
            "evaluations",
            identity(
                "C49", "central differences", "2 x parameters", 0.0, "Central differences evaluate twice for each parameter"
            ),
        ),
        at_most("C49", "the dearest", 6.0, "Back-propagation costs at most six evaluations, whatever the number of parameters"),
        on("error", identity("C49", "central differences", 0.0, 1e-6, "Both give the same gradient")),
        shown=(
            at_most("C49", "the dearest", 3.0, "Back-propagation costs at most three evaluations in these networks"),
            on(
                "operations_by_evaluation",
                identity(
                    "C49", "682 parameters", 1.0, 0.15, "The operations of finite differences are those of their evaluations"
                ),
            ),
            on("error", at_most("C49", "forward differences", 1e-3, "Forward differences agree less closely")),
        ),
        scope="cross-entropy of MLPs with 166 to 301,066 parameters, 16 images, operations as XLA counts them on a CPU",
    ),
    card=Card(
        published="Baydin et al. (2018) give for back-propagation a constant below six, and typically two to three, times the "
        "operations of the function, and for finite differences an evaluation for each parameter at least.",
        would_change="A cost of back-propagation that grows with the parameters beyond six evaluations, or gradients that "
        "differ by more than a millionth.",
        figure=Figure(x="parameters", y="operations / operations of one evaluation", log_x=True, log_y=True),
        deviations="Operations are counted, not time, nor the memory that back-propagation needs for the activations. "
        "Operations of the 683 and more evaluations of finite differences are counted up to 3,466 parameters.",
    ),
)
