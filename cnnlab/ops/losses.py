"""Losses of a classifier: `loss(logits f32 [B, K], labels, *, …) -> f32 [B]`, one number for each example.

Labels are i32 [B], the number of a class, or soft: f32 [B, K], the share of every class, as mixup and cutmix make them. A loss
that has no meaning for soft labels raises UsageError when it is traced.

At logits of zero cross-entropy is ln K and the hinge loss K − 1. Float knobs may be tracers.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from cnnlab import own
from cnnlab.errors import UsageError
from cnnlab.ops.bounds import at_most, largest
from cnnlab.ops.labels import class_shares
from cnnlab.values import Fraction, NonNegative, Positive, below_partials


def cross_entropy(logits: jax.Array, labels: jax.Array, *, smoothing: Fraction = 0.0) -> jax.Array:
    """Returns −Σ_k t_k log softmax(logits)_k, the negative log-likelihood where t is one-hot.

    Args:
        smoothing: share of the target spread evenly over the classes (Szegedy et al. 2016, arXiv 1512.00567, section 7).
    """
    targets = optax.smooth_labels(_shares(logits, labels), jnp.asarray(smoothing, logits.dtype))
    return optax.softmax_cross_entropy(logits, targets)


def focal(logits: jax.Array, labels: jax.Array, *, gamma: NonNegative = 2.0) -> jax.Array:
    """Returns −(1 − p)^γ log p, p the probability of the label (Lin et al. 2017, arXiv 1708.02002, eq. 4, over a softmax).

    Args:
        gamma: how strongly well-classified examples are down-weighted; 0 gives cross-entropy.
    """
    # log(1 − p) is computed from the other classes' logits: finite, with finite gradients, where p rounds to 1.
    others = jnp.where(_one_hot("focal", logits, labels) > 0, -jnp.inf, logits)
    log_rest = jax.nn.logsumexp(others, axis=-1) - jax.nn.logsumexp(logits, axis=-1)
    weight = jnp.exp(jnp.asarray(gamma, logits.dtype) * log_rest)
    return weight * optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def hinge(logits: jax.Array, labels: jax.Array, *, margin: Positive = 1.0) -> jax.Array:
    """Returns Σ_{k≠y} max(0, margin + s_k − s_y), the multi-class SVM of Weston and Watkins (1999).

    Args:
        margin: by how much the label's score must exceed every other.
    """
    targets = _one_hot("hinge", logits, labels)
    right = jnp.sum(logits * targets, axis=-1, keepdims=True)
    return jnp.sum((1.0 - targets) * jax.nn.relu(logits - right + jnp.asarray(margin, logits.dtype)), axis=-1)


def perceptron(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns max_k s_k − s_y; one step of plain gradient descent at rate 1 on one example is Rosenblatt's rule (1958)."""
    _require_numbers("perceptron", labels)
    return largest(logits, -1) - jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]  # [B, K] at [B, 1] -> [B]


def sigmoid(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the sum of the binary cross-entropies of K one-against-all logistic regressions."""
    return jnp.sum(optax.sigmoid_binary_cross_entropy(logits, _shares(logits, labels)), axis=-1)


def squared(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns Σ_k (s_k − t_k)², t the one-hot or soft label: least squares."""
    return jnp.sum(optax.squared_error(logits, _shares(logits, labels)), axis=-1)


def absolute(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns Σ_t |s_t − y_t|, the absolute errors of T numbers, or of one-hot labels."""
    return jnp.sum(jnp.abs(outputs - _shares(outputs, labels)), axis=-1)


def huber(outputs: jax.Array, labels: jax.Array, *, delta: Positive = 1.0) -> jax.Array:
    """Returns Σ_t of ½ e² for |e| ≤ δ and δ (|e| − ½ δ) beyond, e_t = s_t − y_t (Huber 1964, eq. 1.3).

    Args:
        delta: error up to which the loss is quadratic, in the unit of the numbers.
    """
    error = jnp.abs(outputs - _shares(outputs, labels))
    inner = at_most(error, delta)
    return jnp.sum(0.5 * inner**2 + jnp.asarray(delta, outputs.dtype) * (error - inner), axis=-1)


def require_loss(loss: Callable[..., jax.Array], classes: int, labels_of: Callable[..., jax.ShapeDtypeStruct]) -> None:
    """Raises UsageError where a loss does not fit its labels, shapes alone being computed.

    One of a user's own file has to give one number for each example. One of ours may not take the soft labels of training.

    Args:
        loss: the loss.
        classes: K, the number of outputs.
        labels_of: (training=…) -> shape and type of the labels of two examples, in training or as they are.
    """
    chosen = below_partials(loss)
    if chosen in OF_ONE_CLASS:
        _require_numbers(chosen.__name__, labels_of(training=True))
    if not own.is_own_object(loss):
        return
    logits, labels = jax.ShapeDtypeStruct((2, classes), jnp.float32), labels_of(training=False)
    kind = f"labels {'i32' if labels.dtype == jnp.int32 else 'f32'} [{', '.join(['B', *map(str, labels.shape[1:])])}]"
    with own.explained("--loss", while_=f"it is called with logits f32 [B, {classes}] and {kind}"):
        returned = jax.eval_shape(loss, logits, labels)
    if getattr(returned, "shape", None) != (2,) or not jnp.issubdtype(returned.dtype, jnp.floating):
        shape = getattr(returned, "shape", None)
        what = (
            "one number for the whole batch" if shape == () else f"{type(returned).__name__} {list(shape or ())} for 2 examples"
        )
        hint = " Leave the mean or sum over the batch to the task." if shape == () else ""
        raise UsageError(f"--loss: it returns {what}.\nExpected one number for each example, float [B].{hint}")


def _shares(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return class_shares(labels, logits.shape[-1], logits.dtype)


def _one_hot(loss: str, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns one-hot labels f32 [B, K] of numbers i32 [B]; UsageError for soft labels."""
    _require_numbers(loss, labels)
    return _shares(logits, labels)


def _require_numbers(loss: str, labels: jax.Array | jax.ShapeDtypeStruct) -> None:
    if labels.ndim > 1:
        raise UsageError(
            f"--loss={loss}: it takes one class for each image, and these labels have a number for each class, as of mixup.\n"
            "Expected a loss of such labels: cross_entropy, sigmoid or squared. Choose one, or leave mixup and cutmix out."
        )


LOSSES: dict[str, Callable[..., jax.Array]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "hinge": hinge,
    "perceptron": perceptron,
    "sigmoid": sigmoid,
    "squared": squared,
    "absolute": absolute,
    "huber": huber,
}
OF_ONE_CLASS = (focal, hinge, perceptron)
"""Losses that have no meaning for soft labels."""
