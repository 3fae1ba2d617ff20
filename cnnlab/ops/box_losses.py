"""Losses of a detector for each anchor or box; what enters the sum, and what it is divided by, is the task's.

Letters in shapes: K classes; a leading `...` is any number of axes.
"""

import jax
import jax.numpy as jnp
import optax

from cnnlab.errors import UsageError
from cnnlab.ops import boxes
from cnnlab.ops.bounds import at_most
from cnnlab.ops.precision import at_least_f32


def smooth_l1(codes: jax.Array, targets: jax.Array, *, beta: float = 1.0) -> jax.Array:
    """Returns Σ of ½ e² / β for |e| ≤ β and |e| − ½ β beyond over the four numbers of a code, f32 [...].

    Girshick 2015 (arXiv 1504.08083), eq. 2 and 3, where β is 1: Huber's loss divided by its δ. torchvision's R-CNN has 1/9.

    Args:
        codes: predicted codes of boxes, [..., 4].
        targets: the true codes, [..., 4].
        beta: error up to which the loss is quadratic.

    Raises:
        UsageError: `beta` is not positive.
    """
    if not beta > 0:
        raise UsageError(f"smooth L1: beta={beta:g}.\nExpected a number above 0, such as 1 or 1/9.")
    error = jnp.abs(at_least_f32(codes) - at_least_f32(targets))
    inner = at_most(error, beta)
    return jnp.sum(0.5 * inner**2 / beta + (error - inner), axis=-1)


def sigmoid_focal(logits: jax.Array, targets: jax.Array, *, alpha: float | None = 0.25, gamma: float = 2.0) -> jax.Array:
    """Returns Σ_k −α_t (1 − p_t)^γ log p_t over one-against-all classes, f32 [...] (Lin et al. 2017, arXiv 1708.02002, eq. 5).

    Args:
        logits: [..., K].
        targets: 1 at an anchor's class, else 0; all 0 for background, [..., K].
        alpha: weight of the class itself, 1 − α that of the others; None: no weights.
        gamma: how strongly well-classified anchors are down-weighted; 0 gives cross-entropy.
    """
    logits = at_least_f32(logits)
    each = optax.sigmoid_focal_loss(logits, targets.astype(logits.dtype), alpha=alpha, gamma=gamma)
    return jnp.sum(each, axis=-1)


def giou(corners: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns 1 − GIoU of boxes [..., 4] with their targets [..., 4], f32 [...] (Rezatofighi et al. 2019, arXiv 1902.09630)."""
    return 1.0 - boxes.giou(corners, targets)
