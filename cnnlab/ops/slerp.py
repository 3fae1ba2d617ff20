"""Spherical interpolation between two points of a latent space."""

import jax
import jax.numpy as jnp

NEARLY_PARALLEL = 1e-4
"""Sine of the angle below which interpolation is linear: the formula of the arc divides by it."""


def slerp(start: jax.Array, end: jax.Array, share: jax.Array) -> jax.Array:
    """Returns the point [Z] at `share` (0: start, 1: end) of the great arc from start [Z] to end [Z].

    The length changes linearly along the arc.

    Codes of a Gaussian lie near a sphere, which a straight line would leave (White 2016, arXiv 1609.04468, section 2.1).
    """
    lengths = jnp.linalg.norm(start), jnp.linalg.norm(end)
    a, b = (code / jnp.maximum(length, 1e-12) for code, length in zip((start, end), lengths, strict=True))
    angle = jnp.arccos(jnp.clip(jnp.dot(a, b), -1.0, 1.0))
    sine = jnp.sin(angle)
    safe = jnp.where(sine > NEARLY_PARALLEL, sine, 1.0)
    arc = (jnp.sin((1.0 - share) * angle) * a + jnp.sin(share * angle) * b) / safe
    straight = (1.0 - share) * a + share * b
    direction = jnp.where(sine > NEARLY_PARALLEL, arc, straight)
    return direction * ((1.0 - share) * lengths[0] + share * lengths[1])
