"""Claim C11, exact part: the variance of a batch's gradient falls as 1/B, and is 0 for the full batch. An MLP on digits.

Paper:    L. Bottou, F. E. Curtis, J. Nocedal, Optimization methods for large-scale machine learning, 2018, section 4.2;
          Y. LeCun, L. Bottou, G. B. Orr, K.-R. Müller, Efficient backprop, 1998, section 4.1
Command:  python launch.py measure --experiment=c11_gradient_variance
Result:   exact; docs/claims/c11.md has the numbers.

The gradient of a batch of B different examples, drawn out of N, is an unbiased estimate of that of all N. Its variance,
summed over all weights, is σ²/B · (N − B)/(N − 1), where σ² is the mean squared distance of the gradients of single examples
from that of all: a batch four times as large costs four times as much and has half the noise. The gradients are those of
cnnlab's MLP on the 1,437 training images of digits, at the initial weights of each seed, in float64.

The formula is compared with all batches there are for B = 1, 2, N − 1 and N, and with 1,000 random batches for each of the
sizes 1, 2, 4, …, 1024, where the slope of the logarithm of the variance, without the factor of the finite set, on that of B
is fitted. How many examples a training needs is the other half of the claim, c11_batch_sizes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import Array, PyTree
from cnnlab.data import digits
from cnnlab.metric import Metric
from cnnlab.models.mlp import MLP
from cnnlab.ops.losses import cross_entropy

MODEL = MLP(classes=10, widths=(32,))
SIZES = tuple(2**power for power in range(11))
"""Sizes of the random batches."""
BATCHES = 1000
"""Random batches of each size."""


@jax.jit
def gradients(params: PyTree, images: Array, labels: Array) -> Array:
    """Returns the gradients f64 [N, P] of the loss of each image f64 [N, H, W, C] with its label i32 [N]."""

    def of_one(image: Array, label: Array) -> Array:
        def loss(params: PyTree) -> Array:
            return jnp.sum(cross_entropy(MODEL.apply(params, image[None], train=False)[0], label[None]))

        return ravel_pytree(jax.grad(loss)(params))[0]

    return jax.vmap(of_one)(images, labels)


def products(seed: int) -> np.ndarray:
    """Returns the inner products f64 [N, N] of the gradients of all examples, each without the mean, at random weights."""
    train = digits().splits["train"]
    pixels = np.asarray(train.images, np.float64)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        images = jnp.asarray((pixels - pixels.mean()) / pixels.std())
        params = jax.jit(functools.partial(MODEL.init, train=False))(jax.random.key(seed), images[:1])
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
        found = np.asarray(gradients(params, images, jnp.asarray(train.labels)))  # [N, P]
    apart = found - found.mean(axis=0)
    return apart @ apart.T


def variance(inner: np.ndarray, members: np.ndarray) -> float:
    """Returns the mean squared distance of the gradients of batches from that of all examples.

    Args:
        inner: inner products f64 [N, N] of the gradients without their mean.
        members: batches f64 [R, N]: 1 for an example of the batch, else 0; all are of one size.
    """
    size = float(members[0].sum())
    return float(np.mean(np.sum((members @ inner) * members, axis=1))) / size**2  # [R, N] · [N, N] -> [R, N] -> [R]


def of_all_batches(inner: np.ndarray) -> dict[str, float]:
    """Returns the variance over all batches there are of 1, 2, N − 1 and N examples."""
    count, ones = len(inner), np.ones((1, len(inner)))
    diagonal = np.diag(inner)
    # Over all pairs i < j, |g_i + g_j|² / 4 is a sum of inner products, each of which is in it once.
    pairs = ((count - 1) * diagonal.sum() + (inner.sum() - diagonal.sum())) / 4 / (count * (count - 1) / 2)
    return {
        "batches of 1": variance(inner, np.eye(count)),
        "batches of 2": float(pairs),
        "all but one example": variance(inner, 1.0 - np.eye(count)),
        "the full batch": variance(inner, ones),
    }


def drawn(draw: np.random.Generator, size: int, count: int) -> np.ndarray:
    """Returns BATCHES random batches f64 [R, N] of a size: 1 for an example of the batch, else 0."""
    members = np.zeros((BATCHES, count))
    for row in members:
        row[draw.choice(count, size, replace=False)] = 1.0
    return members


def measure(seed: int) -> Measured:
    """Compares the variance of batches with σ²/B · (N − B)/(N − 1), at the initial weights of a seed."""
    inner, draw = products(seed), np.random.default_rng(seed)
    count, single = len(inner), float(np.trace(inner)) / len(inner)
    expected = {size: single / size * (count - size) / (count - 1) for size in (1, 2, count - 1, count, *SIZES)}
    known = of_all_batches(inner)
    named = {"batches of 1": 1, "batches of 2": 2, "all but one example": count - 1}
    measured = {size: variance(inner, drawn(draw, size, count)) for size in SIZES}
    finite = [measured[size] * (count - 1) / (count - size) for size in SIZES]
    slope = np.polyfit(np.log(SIZES), np.log(finite), 1)[0]
    numbers = {
        "ratio": {name: known[name] / expected[size] for name, size in named.items()}
        | {f"1,000 batches of {size}": measured[size] / expected[size] for size in SIZES},
        "slope": {"batches of 1 to 1024": float(slope)},
        # Relative to σ², of which only rounding is left.
        "rest": {"the full batch": known["the full batch"] / single},
    }
    curves = {
        "1,000 random batches": tuple((float(size), measured[size] / single) for size in SIZES),
        "(N − B) / (B (N − 1))": tuple((float(size), expected[size] / single) for size in SIZES),
    }
    return Measured(numbers, curves)


measurement = Measurement(
    claim="C11",
    question="How does the variance of a batch's gradient depend on the size of the batch?",
    measure=measure,
    metrics=(Metric("ratio"), Metric("slope"), Metric("rest")),
    seeds=10,
    verdict=every(
        identity("C11", "batches of 1", 1.0, 1e-9, "Over all batches of one example it is that of the examples"),
        identity("C11", "batches of 2", 1.0, 1e-9, "Over all pairs it is half of it, less the part of the finite set"),
        identity(
            "C11", "all but one example", 1.0, 1e-9, "Over all batches that leave one example out it is as in the formula"
        ),
        on("rest", identity("C11", "the full batch", 0.0, 1e-12, "The full batch has none")),
        on("slope", identity("C11", "batches of 1 to 1024", -1.0, 0.05, "Over sizes of 1 to 1024 it falls as 1/B")),
        shown=(identity("C11", "1,000 batches of 64", 1.0, 0.1, "The variance of 1,000 batches of 64 is that of the formula"),),
        scope="an MLP of 32 ReLU units on the 1,437 training images of digits, at its initial weights",
    ),
    card=Card(
        published="Bottou et al. (2018, section 4.2): the variance of a mini-batch's gradient is smaller than that of one "
        "example by a factor of the size of the batch.",
        would_change="A slope that differs from −1 by more than 0.05, or a full batch with noise.",
        quick="--seeds=2",
        figure=Figure(
            title="The variance of a batch's gradient falls as 1/B",
            x="examples in the batch",
            y="variance of the gradient / that of one example",
            log_x=True,
            log_y=True,
        ),
        deviations="The examples of a batch are all different, as in an epoch, which adds the factor (N − B)/(N − 1). The "
        "weights are the initial ones.",
    ),
)
