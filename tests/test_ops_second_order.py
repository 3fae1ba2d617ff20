"""Newton's method takes one step on a quadratic, conjugate gradients at most one for each coordinate, as SciPy's do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse.linalg

from cnnlab.ops.second_order import conjugate_gradients, newton

SIZE = 8
BASIS = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))[0]
HESSIAN = BASIS @ np.diag(np.logspace(0, -2, SIZE)) @ BASIS.T
AIM = np.random.default_rng(1).normal(size=SIZE)


def path(optimizer: Any, loss: Any, start: np.ndarray, steps: int) -> np.ndarray:
    """The points f64 [steps, D] after each step."""
    optimizer = optax.with_extra_args_support(optimizer)

    def move(carry: Any, _: Any) -> Any:
        x, state = carry
        value, gradient = jax.value_and_grad(loss)(x)
        updates, state = optimizer.update(gradient, state, x, value=value, value_fn=loss)
        return (x + updates, state), x + updates

    begin = jnp.asarray(start)
    return np.asarray(jax.jit(lambda: jax.lax.scan(move, (begin, optimizer.init(begin)), length=steps)[1])())


def quadratic(x: jax.Array) -> jax.Array:
    """Has its minimum at AIM."""
    return 0.5 * jnp.dot(x - AIM, HESSIAN @ (x - AIM))


def test_newtons_method_takes_one_step_on_a_quadratic_and_goes_downhill_where_a_loss_is_not_convex():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        (point,) = path(newton(jax.hessian(quadratic)), quadratic, np.zeros(SIZE), 1)
        np.testing.assert_allclose(point, AIM, atol=1e-9)

        def waves(x: jax.Array) -> jax.Array:
            return jnp.sum(jnp.cos(x)) + 0.01 * jnp.sum(x**2)

        start = np.array([0.5, 0.1])  # near a maximum, to which the plain method would go
        points = path(newton(jax.hessian(waves)), waves, start, 20)
        np.testing.assert_allclose(jax.jit(jax.grad(waves))(points[-1]), 0, atol=1e-9)
        assert waves(points[-1]) < waves(start) - 3 and np.linalg.eigvalsh(jax.jit(jax.hessian(waves))(points[-1])).min() > 0


def test_conjugate_gradients_are_those_of_scipy_and_end_after_a_step_for_each_coordinate():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        ours = path(conjugate_gradients(lambda x, v: HESSIAN @ v), quadratic, np.zeros(SIZE), SIZE + 2)
    theirs: list[np.ndarray] = []
    scipy.sparse.linalg.cg(HESSIAN, HESSIAN @ AIM, rtol=1e-14, maxiter=4, callback=lambda x: theirs.append(x.copy()))
    np.testing.assert_allclose(ours[:4], theirs, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours[SIZE - 1 :], np.broadcast_to(AIM, (3, SIZE)), atol=1e-5)
