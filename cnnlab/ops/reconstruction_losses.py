"""Losses of an autoencoder: how its output becomes a reconstruction, and the loss against the input.

Float knobs may be tracers.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import optax


@dataclasses.dataclass(frozen=True)
class ReconstructionLoss:
    """The reconstruction and the loss that the outputs [B, …] of a decoder stand for."""

    reconstruct: Callable[[jax.Array], jax.Array]
    """Outputs [B, …] -> reconstructions [B, …]."""
    losses: Callable[[jax.Array, jax.Array], jax.Array]
    """(outputs [B, …], inputs [B, …]) -> losses f32 [B]."""


def squared(*, output: Literal["identity", "sigmoid"] = "identity") -> ReconstructionLoss:
    """Returns Σ (reconstruction − input)² over the values of an image, the error that PCA minimises.

    Args:
        output: the last layer's activation; identity reaches any value, sigmoid stays in [0, 1].
    """

    def reconstruct(outputs: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(outputs) if output == "sigmoid" else outputs

    return ReconstructionLoss(reconstruct, lambda outputs, inputs: squared_error(reconstruct(outputs), inputs))


def cross_entropy() -> ReconstructionLoss:
    """Returns −Σ x log r + (1 − x) log(1 − r), nats, r the sigmoid of the output, x in [0, 1] (Vincent et al. 2010, eq. 5)."""

    def losses(outputs: jax.Array, inputs: jax.Array) -> jax.Array:
        each = optax.sigmoid_binary_cross_entropy(outputs.astype(jnp.float32), inputs.astype(jnp.float32))
        return jnp.sum(each, axis=tuple(range(1, each.ndim)))

    return ReconstructionLoss(jax.nn.sigmoid, losses)


def squared_error(reconstructions: jax.Array, inputs: jax.Array) -> jax.Array:
    """Returns f32 [B]: the sum over its values of the squared differences of each example [B, …]."""
    difference = reconstructions.astype(jnp.float32) - inputs.astype(jnp.float32)
    return jnp.sum(difference**2, axis=tuple(range(1, difference.ndim)))


RECONSTRUCTION_LOSSES: dict[str, Callable[..., ReconstructionLoss]] = {"squared": squared, "cross_entropy": cross_entropy}
"""Losses by name, for `Choice[RECONSTRUCTION_LOSSES]`."""
