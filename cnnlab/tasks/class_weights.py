"""Weights of classes in the loss of a classifier, for data in which some classes are rare.

Letters in shapes: B batch, K classes.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.errors import UsageError
from cnnlab.ops import collectives
from cnnlab.ops.labels import class_shares

ClassWeights = Literal["balanced"] | tuple[float, ...] | None
"""The knob: balanced, one number >= 0 for each class, or none."""
MeanLoss = Callable[[jax.Array, jax.Array], jax.Array]
"""(losses f32 [B], labels i32 [B] or shares f32 [B, K]) -> their mean over the global batch, f32 []."""


def _plain_mean(losses: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.mean(losses)


EQUAL_WEIGHTS: MeanLoss = _plain_mean
"""The mean over all examples."""


def weights_of(wanted: ClassWeights, classes: Sequence[str], counts: Sequence[int]) -> np.ndarray | None:
    """Returns the weights f32 [K] of the classes; None for no weights.

    `balanced` gives class k of K the weight N / (K · n_k), where n_k of the N training examples are of the class, so that every
    class has the same weight in all, and an example has weight 1 on average (King and Zeng 2001; scikit-learn's class_weight).

    Args:
        wanted: the knob.
        classes: names of the classes.
        counts: number of training examples of each class; (): unknown.

    Raises UsageError for numbers that do not fit the classes.
    """
    if wanted is None:
        return None
    given = f"--class_weights={wanted if isinstance(wanted, str) else ','.join(f'{number:g}' for number in wanted)}"
    if wanted == "balanced":
        if not counts or min(counts) == 0:
            missing = [name for name, count in zip(classes, counts, strict=False) if count == 0]
            what = (
                f"no training example is of class {missing[0]}" if missing else "the number of examples of a class is unknown"
            )
            raise UsageError(f"{given}: {what}.\nGive the weights as numbers, one for each of the {len(classes)} classes.")
        return (sum(counts) / (len(classes) * np.asarray(counts, np.float64))).astype(np.float32)
    if len(wanted) != len(classes) or min(wanted) < 0 or max(wanted) == 0:
        raise UsageError(
            f"{given}: there are {len(classes)} classes ({', '.join(classes[:5])}{', …' if len(classes) > 5 else ''}).\n"
            "Expected one number >= 0 for each of them in this order, not all 0, or balanced."
        )
    return np.asarray(wanted, np.float32)


def mean_loss(weights: np.ndarray | None) -> MeanLoss:
    """Returns the mean of the losses of a batch, in which an example has the weight of its class.

    The sum of weighted losses is divided by the sum of the weights over the global batch, as in torch's CrossEntropyLoss. With
    soft labels, as of mixup, an example has the mean of the weights of its classes.
    """
    if weights is None:
        return EQUAL_WEIGHTS

    def mean(losses: jax.Array, labels: jax.Array) -> jax.Array:
        shares = class_shares(labels, len(weights), losses.dtype)  # [B, K]
        return collectives.weighted_mean(losses, shares @ jnp.asarray(weights, losses.dtype))

    return mean
