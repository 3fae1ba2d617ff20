"""Losses of dense prediction, one class for every pixel, each as a mean over images or pixels that the task can take exactly.

Each is `loss(logits f32 [B, H, W, K], labels i32 [B, H, W], valid bool [B, H, W], class_weights f32 [K], *, weight, …)` and
returns (values f32 [B], shares f32 [B]), one pair for each image: the loss of a batch is `weight` times
Σ values · shares / Σ shares over the global batch. Pixels that are not valid count for nothing, and an image without a valid
pixel has the share 0.

Letters in shapes: B batch, H W space, K classes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from cnnlab.ops import losses
from cnnlab.values import NonNegative, Positive

Terms = tuple[jax.Array, jax.Array]
"""(values f32 [B], shares f32 [B])."""


def cross_entropy(
    logits: jax.Array, labels: jax.Array, valid: jax.Array, class_weights: jax.Array, *, weight: NonNegative = 1.0
) -> Terms:
    """Returns the mean of −log softmax(logits)_label over pixels, each with the weight of its class.

    It is divided by the sum of these weights, as in torch's CrossEntropyLoss(weight, ignore_index). Long et al. 2015 (arXiv
    1411.4038) sum over pixels instead, which multiplies the learning rate by their number.

    Args:
        weight: factor of this term of the loss.
    """
    safe = jnp.where(valid, labels, 0)
    return _over_pixels(optax.softmax_cross_entropy_with_integer_labels(logits, safe), safe, valid, class_weights)


def focal(
    logits: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    class_weights: jax.Array,
    *,
    weight: NonNegative = 1.0,
    gamma: NonNegative = 2.0,
) -> Terms:
    """Returns the mean over pixels of −(1 − p)^γ log p, p the label's probability (Lin et al. 2017, arXiv 1708.02002, eq. 4).

    Args:
        weight: factor of this term of the loss.
        gamma: how strongly well-classified pixels are down-weighted; 0 gives cross-entropy.
    """
    safe = jnp.where(valid, labels, 0)
    # [B, H, W, K] -> [B·H·W, K] and [B·H·W] -> [B, H, W]
    each = losses.focal(logits.reshape(-1, logits.shape[-1]), safe.reshape(-1), gamma=gamma).reshape(safe.shape)
    return _over_pixels(each, safe, valid, class_weights)


def dice(
    logits: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    class_weights: jax.Array,
    *,
    weight: NonNegative = 1.0,
    smooth: Positive = 1.0,
    background: bool = True,
) -> Terms:
    """Returns 1 − (2 Σ p t + s) / (Σ p + Σ t + s), the soft Dice loss of an image as a mean over the classes that it has.

    p is a class's softmax probability and t its one-hot label, summed over the valid pixels (Milletari et al. 2016, arXiv
    1606.04797, section 3, without the squares of its denominator, as in nnU-Net). Every image and every class in it counts
    alike, so weights of classes do not enter. A class that is nowhere in an image has no share there: its own term would be
    near 1 until Σ p over thousands of pixels is below s, which holds all rare classes down.

    Args:
        weight: factor of this term of the loss.
        smooth: s in pixels.
        background: whether class 0 is among the classes.
    """
    kept = valid[..., None].astype(logits.dtype)
    shares = jax.nn.softmax(logits) * kept
    truth = jax.nn.one_hot(jnp.where(valid, labels, 0), logits.shape[-1], dtype=logits.dtype) * kept
    both, either = (jnp.sum(part, (1, 2)) for part in (shares * truth, shares + truth))  # [B, H, W, K] -> [B, K]
    s = jnp.asarray(smooth, logits.dtype)
    each = 1.0 - (2.0 * both + s) / (either + s)
    first = 0 if background else 1
    has = jnp.any(truth[..., first:] > 0, (1, 2)).astype(jnp.float32)  # [B, H, W, K'] -> [B, K']
    count = jnp.sum(has, axis=1)
    return jnp.sum(has * each[:, first:], axis=1) / jnp.where(count > 0, count, 1.0), (count > 0).astype(jnp.float32)


def _over_pixels(each: jax.Array, labels: jax.Array, valid: jax.Array, class_weights: jax.Array) -> Terms:
    """Returns the weighted mean of the losses [B, H, W] of an image's pixels, and the sum of their weights, both f32 [B]."""
    weights = jnp.where(valid, jnp.asarray(class_weights)[labels], 0.0)  # [K] at [B, H, W] -> [B, H, W]
    whole = jnp.sum(weights, (1, 2))
    total = jnp.sum(jnp.where(weights > 0, each, 0.0) * weights, (1, 2))
    return total / jnp.where(whole > 0, whole, 1.0), whole


DENSE_LOSSES: dict[str, Callable[..., Terms]] = {"cross_entropy": cross_entropy, "dice": dice, "focal": focal}
"""Terms of the loss of a segmentation, for `Choices[DENSE_LOSSES]`."""
