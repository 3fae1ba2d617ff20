"""Losses of a generator and a discriminator. Scores are the discriminator's output before any sigmoid: high is "real".

Letters in shapes: B examples. Float knobs may be tracers.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.nn import relu, sigmoid, softplus

from cnnlab.ops import draws
from cnnlab.values import Fraction, NonNegative


@dataclasses.dataclass(frozen=True)
class GanLoss:
    """The losses of both players, one number for each example."""

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    """(scores of real images [B], scores of generated images [B]) -> losses [B]."""
    generator: Callable[[jax.Array], jax.Array]
    """Scores of generated images [B] -> losses [B]."""
    reported_score: Callable[[jax.Array], jax.Array] = lambda scores: scores
    """Scores [B] -> D(x) as it is reported: a probability where the losses define one."""
    is_probability: bool = False
    """Whether `reported_score` is a probability."""
    gradient_penalty: float | jax.Array | None = None
    """Weight of (‖∇D‖ − 1)² between real and generated images; None: it is not computed."""


def saturating(*, smoothing: Fraction = 0.0) -> GanLoss:
    """The minimax game of Goodfellow et al. 2014 (arXiv 1406.2661, eq. 1): the generator lowers log(1 − D(G(z))).

    Where the discriminator is certain, D(G(z)) → 0, the generator's gradient vanishes.

    Args:
        smoothing: by how much the target of real images is below 1 (one-sided: Salimans et al. 2016, arXiv 1606.03498, section
            3.4).
    """
    return GanLoss(_binary(smoothing), lambda fake: -softplus(fake), sigmoid, True)


def non_saturating(*, smoothing: Fraction = 0.0) -> GanLoss:
    """The generator lowers −log D(G(z)) (Goodfellow et al. 2014, arXiv 1406.2661, section 3): the same fixed point.

    Args:
        smoothing: by how much the target of real images is below 1 (one-sided: Salimans et al. 2016, arXiv 1606.03498, section
            3.4).
    """
    return GanLoss(_binary(smoothing), lambda fake: softplus(-fake), sigmoid, True)


def least_squares() -> GanLoss:
    """Returns ½ (D(x) − 1)² + ½ D(G(z))² against ½ (D(G(z)) − 1)² (Mao et al. 2017, arXiv 1611.04076, eq. 9)."""
    return GanLoss(lambda real, fake: 0.5 * ((real - 1) ** 2 + fake**2), lambda fake: 0.5 * (fake - 1) ** 2)


def wgan_gp(*, gradient_penalty: NonNegative = 10.0) -> GanLoss:
    """Returns D(G(z)) − D(x), the critic held to slope 1 by a penalty (Gulrajani et al. 2017, arXiv 1704.00028, eq. 3).

    Args:
        gradient_penalty: weight of (‖∇D‖ − 1)² at points between real and generated images.
    """
    return GanLoss(lambda real, fake: fake - real, lambda fake: -fake, gradient_penalty=gradient_penalty)


def hinge() -> GanLoss:
    """Returns max(0, 1 − D(x)) + max(0, 1 + D(G(z))) against −D(G(z)) (Lim and Ye 2017, arXiv 1705.02894).

    See also Miyato et al. 2018 (arXiv 1802.05957, eq. 16 and 17).
    """
    return GanLoss(lambda real, fake: relu(1 - real) + relu(1 + fake), lambda fake: -fake)


def _binary(smoothing: float | jax.Array) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns the cross-entropy of real images against the target 1 − smoothing and of generated ones against 0."""

    def losses(real: jax.Array, fake: jax.Array) -> jax.Array:
        target = 1.0 - jnp.asarray(smoothing, real.dtype)
        return target * softplus(-real) + (1.0 - target) * softplus(real) + softplus(fake)

    return losses


GAN_LOSSES: dict[str, Callable[..., GanLoss]] = {
    "saturating": saturating,
    "non_saturating": non_saturating,
    "least_squares": least_squares,
    "wgan_gp": wgan_gp,
    "hinge": hinge,
}


def squared_gradient_norms(scores_of: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """Returns ‖∂ D(x_i) / ∂ x_i‖² f32 [B] for images [B, …], where the score of one does not depend on the others."""
    gradient = jax.grad(lambda x: jnp.sum(scores_of(x)))(images)
    # [B, …] -> [B, values of an image] -> [B]
    return jnp.sum(gradient.reshape(gradient.shape[0], -1).astype(jnp.float32) ** 2, axis=1)


def interpolate(real: jax.Array, fake: jax.Array, keys: jax.Array) -> jax.Array:
    """Returns a point between each real image [B, …] and its generated one, uniform on the line by a key of its own [B]."""
    weight = jax.vmap(lambda key: draws.uniform(key, (1,) * (real.ndim - 1), real.dtype))(keys)
    return weight * real + (1.0 - weight) * fake


def gradient_penalty(squared_slopes: jax.Array) -> jax.Array:
    """Returns (‖∇D‖ − 1)² [B] for squared slopes [B]; its gradient is finite where the slope is 0."""
    return (jnp.sqrt(squared_slopes + 1e-12) - 1.0) ** 2


def loss_with_image_gradient(
    loss_of: Callable[[jax.Array], tuple[jax.Array, jax.Array]], images: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns (loss [], auxiliary output, ∂ loss / ∂ images), the loss differentiable by whatever made the images.

    The gradient by the images is computed once, and serves both as a result and in the backward pass: the loss is returned as
    a surrogate whose value is the loss and whose gradient by the images is that one.

    Args:
        loss_of: images -> (loss [], auxiliary output).
        images: [B, …].
    """
    (loss, auxiliary), gradient = jax.value_and_grad(loss_of, has_aux=True)(jax.lax.stop_gradient(images))
    gradient = jax.lax.stop_gradient(gradient)
    linear = jnp.sum((gradient * images).astype(jnp.float32))  # the loss is f32, whatever the images are computed in
    return jax.lax.stop_gradient(loss) + linear - jax.lax.stop_gradient(linear), auxiliary, gradient
