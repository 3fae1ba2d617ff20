"""Convolution forms with gradients of their own choice: one way for the values, one for each derivative."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero

from cnnlab.ops.windows import Geometry

CONVOLVED = "convolved"
"""Name of the results, by which `--remat=save_matmuls` keeps them: it does not see the products inside of a form."""
Product = Callable[[Geometry, jax.Array, jax.Array], jax.Array]
"""(geometry, image [B, H, W, C], kernel) -> [B, H', W', O], linear in the image and in the kernel."""


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _product(form: "Passes", geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return form.forward(geometry, x, kernel)


def _product_jvp(
    form: "Passes", geometry: Geometry, primals: tuple[jax.Array, jax.Array], tangents: tuple
) -> tuple[jax.Array, jax.Array]:
    """Applies the product rule, each term by its own pass; a term whose tangent is a symbolic zero is not computed."""
    (x, kernel), (x_dot, kernel_dot) = primals, tangents
    y = _product(form, geometry, x, kernel)
    parts = []
    if not isinstance(x_dot, SymbolicZero):
        parts.append(form.by_image(geometry, x_dot, kernel))
    if not isinstance(kernel_dot, SymbolicZero):
        parts.append(form.by_kernel(geometry, x, kernel_dot))
    return y, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(y)


_product.defjvp(_product_jvp, symbolic_zeros=True)


@dataclasses.dataclass(frozen=True)
class Passes:
    """Three ways to compute one product. The two last are derivatives, of which JAX takes the transposes as gradients."""

    forward: Product
    """Computes the values."""
    by_image: Product
    """Computes the derivative by the image; its transpose is the input gradient."""
    by_kernel: Product
    """Computes the derivative by the kernel; its transpose is the weight gradient."""

    def __call__(self, x: jax.Array, kernel: jax.Array, geometry: Geometry, groups: int = 1) -> jax.Array:
        """Returns the product; a form that takes groups knows their number from the shapes."""
        return checkpoint_name(_product(self, geometry, x, kernel), CONVOLVED)
