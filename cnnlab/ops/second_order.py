"""Methods of second order for one array of few parameters: Newton's method and conjugate gradients, as optax transformations.

They take the Hessian, or its products, from the caller, so they are for demonstrations and small problems. L-BFGS, which needs
gradients alone, is an optimiser of its own (lbfgs.py). Nocedal and Wright 2006, Numerical Optimization, second edition.

Letters in shapes: D parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

FLAT = 1e-8
"""Share of the largest eigenvalue below which a direction counts as flat in Newton's method."""


def newton(hessian: Callable[[jax.Array], jax.Array]) -> optax.GradientTransformationExtraArgs:
    """Returns Newton's method with a backtracking line search that begins at the full step (algorithm 3.2).

    The eigenvalues of the Hessian are replaced by their absolute values, so that the step leads downhill where the loss is not
    convex (section 3.4). `update` takes value and value_fn by name.

    Args:
        hessian: parameters [D] -> Hessian [D, D].
    """

    def direct(gradient: jax.Array, state: optax.EmptyState, params: jax.Array) -> tuple[jax.Array, optax.EmptyState]:
        values, vectors = jnp.linalg.eigh(hessian(params))
        sizes = jnp.maximum(jnp.abs(values), FLAT * jnp.max(jnp.abs(values)))
        return -vectors @ ((vectors.T @ gradient) / sizes), state

    search = optax.scale_by_backtracking_linesearch(max_backtracking_steps=30)
    chained = optax.chain(optax.GradientTransformation(lambda params: optax.EmptyState(), direct), search)

    def update(gradient: Any, state: Any, params: Any = None, *, value: Any, value_fn: Any, **extra: Any) -> tuple[Any, Any]:
        stepped: tuple[Any, Any] = chained.update(gradient, state, params, value=value, grad=gradient, value_fn=value_fn)
        return stepped

    return optax.GradientTransformationExtraArgs(chained.init, update)


class ConjugateState(NamedTuple):
    """What conjugate gradients keep of the step before."""

    direction: jax.Array
    """[D]."""
    square: jax.Array
    """Squared norm of the gradient []; 0 before the first step."""


def conjugate_gradients(product: Callable[[jax.Array, jax.Array], jax.Array]) -> optax.GradientTransformation:
    """Returns conjugate gradients with Fletcher and Reeves's rule (algorithms 5.2 and 5.4), exact on a quadratic.

    The length of a step is that to the minimum along its direction as the curvature says, which takes one product.

    Args:
        product: (parameters [D], direction [D]) -> Hessian times direction [D].
    """

    def init(params: jax.Array) -> ConjugateState:
        return ConjugateState(jnp.zeros_like(params), jnp.zeros((), params.dtype))

    def update(gradient: jax.Array, state: ConjugateState, params: jax.Array | None = None) -> tuple[jax.Array, ConjugateState]:
        assert params is not None, "the curvature depends on the parameters"
        square = jnp.vdot(gradient, gradient)
        kept = jnp.where(state.square > 0, square / jnp.where(state.square > 0, state.square, 1.0), 0.0)
        direction = kept * state.direction - gradient
        curvature = jnp.vdot(direction, product(params, direction))
        # At the minimum itself there is no direction any more.
        length = jnp.where(curvature > 0, -jnp.vdot(gradient, direction) / jnp.where(curvature > 0, curvature, 1.0), 0.0)
        return length * direction, ConjugateState(direction, square)

    return optax.GradientTransformation(init, update)
