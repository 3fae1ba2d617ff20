"""Claim C9: an L1 penalty gives sparse weights, an L2 penalty diffuse ones. Softmax regression on digits, equally accurate.

Paper:    R. Tibshirani, Regression shrinkage and selection via the lasso, 1996; A. Y. Ng, Feature selection, L1 vs. L2
          regularization, and rotational invariance, 2004
Command:  python launch.py measure --experiment=c09_sparse_weights
Result:   not run yet.

The seed divides the 1,797 digits of scikit-learn into 1,000 for training, 400 for validation and 397 for the test. Softmax
regression is trained on all of the first at once, 2,000 steps, with 13 strengths of each penalty, a quarter of a decade apart.
Sparseness and accuracy trade, so the penalties are compared where they are equally accurate: each has the largest strength at
which the validation accuracy, the mean over seeds 100 to 104, is no more than a point below the best of its strengths, and the
test accuracies have to agree within two points. When the program was tried, with seeds 0, 1, 10 and 11, every seed chose its
own strengths, by 400 images, which did not make the penalties equally accurate; so the test has other seeds for both.

L1 has cnnlab's proximal step: by the subgradient, which is what a penalty in a loss amounts to, no weight is exactly 0 (shown).
The weights that are counted belong to pixels that are not the same in all training images. Diffuse weights are many of similar
size: their kurtosis, Σw⁴/n / (Σw²/n)², is small. c09_soft_threshold has the exact half of the claim.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, identity
from cnnlab.ablation.analyse.verdicts import contrast, equivalent, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import Array
from cnnlab.data import digits
from cnnlab.metric import SHARE, Metric
from cnnlab.models.linear import Linear
from cnnlab.ops.regularizers import penalties
from experiments.claims import side_by_side

L1, SUBGRADIENT, L2 = "L1", "L1 by the subgradient", "L2"
STRENGTHS = {
    L1: 10.0 ** np.linspace(-5.0, -2.0, 13),
    SUBGRADIENT: 10.0 ** np.linspace(-5.0, -2.0, 13),
    L2: 10.0 ** np.linspace(-4.0, -1.0, 13),
}
TUNING_SEEDS = (100, 101, 102, 103, 104)
TRAIN, VALIDATION = 1000, 400
STEPS, RATE = 2000, 0.2
LOST, EQUAL = 0.01, 0.02
"""Validation accuracy that a penalty may cost, and the margin within which test accuracies have to agree: 8 of 397 images."""
MODEL = Linear(classes=10)


def penalised(name: str, strength: Array) -> optax.GradientTransformation:
    """Returns plain gradient descent with a penalty."""
    given: dict[str, Any] = {"l2": strength} if name == L2 else {"l1": strength}
    if name == L1:
        given["l1_step"] = "proximal"
    return penalties(optax.sgd(RATE), **given)


@functools.cache
def trained(name: str) -> Callable[..., Any]:
    """Returns the compiled function (strengths [S], parts) -> (kernels f32 [S, 64, 10], validation, test accuracies [S])."""

    def run(strength: Array, parts: Any) -> tuple[Array, Array, Array]:
        train, validation, test = parts
        start = side_by_side.initial(MODEL, jax.random.key(0), train[0])
        # The whole split in every step: [T, N]
        positions = jnp.broadcast_to(jnp.arange(TRAIN, dtype=jnp.int32), (STEPS, TRAIN))
        end, _, _ = side_by_side.train(
            MODEL, penalised(name, strength), start, train, positions, watch=lambda params, state: (), every=STEPS
        )
        (kernel,) = (leaf for leaf in jax.tree.leaves(end[0]) if leaf.ndim == 2)
        return kernel, side_by_side.scores(MODEL, *end, *validation)[1], side_by_side.scores(MODEL, *end, *test)[1]

    return jax.jit(jax.vmap(run, in_axes=(0, None)))


def drawn(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns (images f32 [N, 8, 8, 1] in [0, 1], labels i32 [N]) for training, validation and test, drawn by a seed."""
    splits = digits().splits
    images = np.concatenate([np.asarray(splits[part].columns["image"]) for part in ("train", "test")]).astype(np.float32)
    labels = np.concatenate([np.asarray(splits[part].labels) for part in ("train", "test")])
    order = np.random.default_rng(seed).permutation(len(labels))
    parts = np.split(order, [TRAIN, TRAIN + VALIDATION])
    return [(images[part] / images.max(), labels[part]) for part in parts]


@functools.cache
def of_strengths(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (kernels f32 [S, 64, 10], validation accuracies [S], test accuracies [S]) of all strengths of a penalty."""
    kernels, validation, test = trained(name)(jnp.asarray(STRENGTHS[name], jnp.float32), drawn(seed))
    return np.asarray(kernels), np.asarray(validation), np.asarray(test)


@functools.cache
def strongest(name: str) -> int:
    """Returns the number of the largest strength whose accuracy on validation images is at most LOST below the best."""
    mean = np.mean([of_strengths(L1 if name == SUBGRADIENT else name, seed)[1] for seed in TUNING_SEEDS], axis=0)
    return int(np.flatnonzero(mean >= mean.max() - LOST).max())


def kurtosis(weights: np.ndarray) -> float:
    """Returns the kurtosis of weights [n] about 0: 3 for Gaussian ones, n where all but one are 0."""
    return float(np.mean(weights**4) / np.mean(weights**2) ** 2)


def measure(seed: int) -> Measured:
    """Trains with every strength of every penalty, and describes the weights of the strength that was chosen."""
    varies = drawn(seed)[0][0].reshape(TRAIN, -1).std(axis=0) > 0  # [N, 8, 8, 1] -> [N, 64] -> [64]
    numbers: dict[str, dict[str, float]] = {metric.name: {} for metric in METRICS}
    curves = {}
    for name, strengths in STRENGTHS.items():
        kernels, _, test = of_strengths(name, seed)
        weights = kernels[:, varies].reshape(len(strengths), -1)  # [S, 64, 10] -> [S, pixels that vary · 10]
        chosen = strongest(name)
        numbers["zeros"][name] = float(np.mean(weights[chosen] == 0))
        numbers["kurtosis"][name] = kurtosis(weights[chosen].astype(np.float64))
        numbers["accuracy"][name] = float(test[chosen])
        numbers["strength"][name] = float(strengths[chosen])
        curves[name] = tuple(zip(strengths.tolist(), np.mean(weights == 0, axis=1).tolist(), strict=True))
    return Measured(numbers, curves)


METRICS = (
    Metric("zeros", SHARE),
    Metric("kurtosis", log_scale=True),
    Metric("accuracy", SHARE, higher_is_better=True),
    Metric("strength", log_scale=True),
)

measurement = Measurement(
    claim="C9",
    question="At equal accuracy: how many weights of softmax regression are 0 with L1 and with L2?",
    measure=measure,
    metrics=METRICS,
    seeds=10,
    first_seed=20,
    verdict=every(
        contrast("C9", L1, "higher", "More weights are exactly 0 with L1 than with L2", against=L2, smallest=0.25),
        on(
            "kurtosis",
            contrast(
                "C9",
                L2,
                "lower",
                "The weights of L2 are more diffuse than those of L1",
                against=L1,
                scale="log",
                smallest=float(np.log(1.5)),
            ),
        ),
        shown=(
            identity("C9", SUBGRADIENT, 0.0, 0.0, "By the subgradient L1 leaves no weight at exactly 0"),
            identity("C9", L2, 0.0, 0.0, "L2 leaves no weight at exactly 0"),
        ),
        requires=(
            on("accuracy", equivalent("C9", L1, EQUAL, "Both penalties are equally accurate on test images", against=L2)),
            on("accuracy", at_least("C9", L1, 0.85, "Softmax regression with L1 learns the digits in every run")),
        ),
        scope="softmax regression on 1,000 digits of 8x8 drawn by the seed, the strongest penalty that costs at most a point",
    ),
    card=Card(
        published="Tibshirani (1996) and Ng (2004) state it for regression and logistic regression, and give no share of zeros "
        "for images.",
        would_change="A share of zeros with L1 that is less than 25 points above that with L2 at equal accuracy.",
        quick="--seeds=2",
        figure=Figure(x="strength of the penalty", y="share of weights that are 0", log_x=True),
        deviations="The smallest effects of interest are a quarter of the weights and a kurtosis half as large again.",
    ),
)
