"""Penalties that keep an autoencoder from copying its input: `penalty(encode, inputs, codes, *, …) -> f32 []`.

`encode` maps inputs [B, …] to codes [B, Z]; `codes` are those of `inputs`. A penalty is a mean over the batch and is added to
the mean loss of an example. Float knobs may be tracers.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cnnlab.ops import collectives
from cnnlab.ops.bounds import between
from cnnlab.values import NonNegative, Probability

Encode = Callable[[jax.Array], jax.Array]

SMALLEST = 1e-6
"""Distance that mean activations keep from 0 and 1, where the divergence is infinite."""


def no_penalty(encode: Encode, inputs: jax.Array, codes: jax.Array) -> jax.Array:
    """Returns 0."""
    return jnp.zeros((), jnp.float32)


def sparse_kl(
    encode: Encode, inputs: jax.Array, codes: jax.Array, *, rho: Probability = 0.05, weight: NonNegative = 1.0
) -> jax.Array:
    """Returns weight · Σ_z KL(rho ‖ mean activation of unit z over the batch) for Bernoulli units (Ng 2011, CS294A, p. 16).

    Codes must be in [0, 1], as those of sigmoid units are.

    Args:
        rho: target of each unit's mean activation.
        weight: weight of the penalty.
    """
    mean = collectives.global_mean(jnp.mean(codes.astype(jnp.float32), axis=0))  # [B, Z] -> [Z]
    mean, wanted = (between(each, SMALLEST, 1 - SMALLEST) for each in (mean, jnp.asarray(rho, jnp.float32)))
    each = wanted * jnp.log(wanted / mean) + (1 - wanted) * jnp.log((1 - wanted) / (1 - mean))
    return jnp.asarray(weight, jnp.float32) * jnp.sum(each)


def sparse_l1(encode: Encode, inputs: jax.Array, codes: jax.Array, *, weight: NonNegative = 0.01) -> jax.Array:
    """Returns weight · Σ_z |code_z|, averaged over the batch.

    Args:
        weight: weight of the penalty.
    """
    return jnp.asarray(weight, jnp.float32) * jnp.mean(jnp.sum(jnp.abs(codes.astype(jnp.float32)), axis=1))


def contractive(encode: Encode, inputs: jax.Array, codes: jax.Array, *, weight: NonNegative = 0.1) -> jax.Array:
    """Returns weight · ‖∂code/∂input‖² (Frobenius), averaged over the batch (Rifai et al. 2011, eq. 6).

    The penalty is exact, by one backward pass for each unit of the code.

    Args:
        weight: weight of the penalty.
    """
    return jnp.asarray(weight, jnp.float32) * jnp.mean(squared_jacobian(encode, inputs, codes.shape[1]))


def squared_jacobian(encode: Encode, inputs: jax.Array, units: int) -> jax.Array:
    """Returns f32 [B]: the squared Frobenius norm of ∂code/∂input of each example, for codes of `units` units.

    Examples must not touch one another in `encode` (no batch norm), so that one backward pass gives a row of every Jacobian.
    A row's intermediates are recomputed for its gradient: stored, they would take the memory of `units` batches.
    """

    @jax.checkpoint
    def row(unit: jax.Array) -> jax.Array:
        codes, pull = jax.vjp(encode, inputs)
        # One unit [Z] -> [1, Z] -> [B, Z]: the cotangent that picks this unit of every example.
        (gradient,) = pull(jnp.broadcast_to(unit[None].astype(codes.dtype), codes.shape))
        return jnp.sum(gradient.astype(jnp.float32) ** 2, axis=tuple(range(1, gradient.ndim)))

    return jnp.sum(jax.lax.map(row, jnp.eye(units, dtype=jnp.float32)), axis=0)


PENALTIES: dict[str, Callable[..., jax.Array]] = {
    "none": no_penalty,
    "sparse_kl": sparse_kl,
    "sparse_l1": sparse_l1,
    "contractive": contractive,
}
"""Penalties by name, for `Choice[PENALTIES]`."""
