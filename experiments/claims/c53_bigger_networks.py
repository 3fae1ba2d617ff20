"""Claim C53: a network that does not over-fit gets better when it is made bigger. MLPs of 8 to 128 hidden units on MNIST.

Paper:    B. Neyshabur, R. Tomioka, N. Srebro, In search of the real inductive bias, 2015, arXiv 1412.6614, figure 1; P.
          Nakkiran et al., Deep double descent, 2020, arXiv 1912.02292
Command:  python launch.py measure --experiment=c53_bigger_networks
Result:   not run yet.

Networks of one hidden layer of 8, 32 and 128 ReLU units learn for 1,500 steps of 64 images: all training images of MNIST,
of which they see 96,000, or 500 of them, drawn by the seed, over and over. A network does not over-fit where its accuracy on
10,000 training images is at most 1.5 points above that on the 10,000 test images, which has to hold for the two smaller
networks on all images, or the claim is not tested. With 500 images they over-fit; the claim says nothing about that, and what
size does there is only shown. Seeds draw the initial weights, the order and the 500 images; on seed 0, which the measurement
does not use, a network of 4 units did not learn.

The smallest effect of interest is half a point, 50 of the 10,000 test images.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import SHARE, Metric
from cnnlab.models.mlp import MLP
from cnnlab.ops.optimizers import adam
from cnnlab.ops.schedules import cosine
from experiments.claims.side_by_side import initial, mnist, scores, shuffled, train

CLASSES, WIDTHS = 10, (8, 32, 128)
STEPS, BATCH, RATE = 1500, 64, 0.002
FEW, MEASURED = 500, 10_000
"""Images of the second case, and training images on which the accuracy is measured."""
LARGEST_GAP = 0.015
"""Share by which the accuracy on training images is above that on test images where a network does not over-fit."""
SMALLEST = 0.005
"""Smallest effect of interest, as a share of the test images."""
ALL, SOME = "all images", f"{FEW} images"


def case(width: int, images: str) -> str:
    """Returns the name of a network on some images."""
    return f"{width} units, {images}"


@functools.cache
def images_of(data_dir: str | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns {split: (images f32 [N, 28, 28, 1] of mean 0 and variance 1, labels i32 [N])} of MNIST."""
    return {split: ((pixels - 0.1307) / 0.3081, labels.astype(np.int32)) for split, (pixels, labels) in mnist(data_dir).items()}


@functools.cache
def trained(width: int) -> Callable[..., Any]:
    """Returns the compiled function (key, train images, positions [steps, BATCH], measured [M], test images) -> accuracies.

    These are the accuracies on the training images at the positions `measured` and on the test images, each with labels.
    """
    model, optimizer = MLP(CLASSES, (width,)), adam(steps=STEPS, schedule=cosine, lr=RATE)

    def accuracies(key: jax.Array, data: Any, positions: jax.Array, measured: jax.Array, test: Any) -> tuple[Any, Any]:
        variables = initial(model, key, data[0])
        end, _, _ = train(model, optimizer, variables, data, positions, watch=lambda params, state: (), every=STEPS)
        seen = data[0][measured], data[1][measured]
        return scores(model, *end, *seen)[1], scores(model, *end, *test)[1]

    return jax.jit(accuracies)


def measure(seed: int, data_dir: str | None = None) -> Measured:
    """Returns accuracies and gaps of all sizes on all and on few images, for one draw of weights, order and images."""
    splits, key = images_of(data_dir), jax.random.key(seed)
    order = np.random.default_rng(seed).permutation(len(splits["train"][1])).astype(np.int32)
    # {images: (those that are trained on, those of them that are measured; few are repeated to the same number)}
    chosen = {ALL: (order, order[:MEASURED]), SOME: (order[:FEW], np.resize(order[:FEW], MEASURED))}
    accuracy, gap, curves = {}, {}, {}
    with jax.numpy_dtype_promotion("standard"):  # optax counts steps in i32
        for name, (kept, measured) in chosen.items():
            positions = kept[shuffled(seed, len(kept), BATCH, STEPS)]  # [steps, BATCH]
            for width in WIDTHS:
                found = trained(width)(key, splits["train"], positions, measured, splits["test"])
                on_training, on_test = map(float, found)
                accuracy[case(width, name)], gap[case(width, name)] = on_test, on_training - on_test
            curves[name] = tuple((float(width), 1 - accuracy[case(width, name)]) for width in WIDTHS)
    return Measured({"accuracy": accuracy, "gap": gap}, curves)


def bigger(small: int, large: int, images: str, says: str, smallest: float | None = None) -> Rule:
    """Returns the rule that a network classifies better than a smaller one."""
    return contrast("C53", case(large, images), "better", says, against=case(small, images), smallest=smallest)


measurement = Measurement(
    claim="C53",
    question="Where a network does not over-fit, does one of four times the hidden units classify better?",
    measure=measure,
    metrics=(Metric("accuracy", SHARE, higher_is_better=True), Metric("gap", SHARE, higher_is_better=False)),
    seeds=8,
    first_seed=10,
    verdict=every(
        bigger(8, 32, ALL, "Without over-fitting 32 units are better than 8", SMALLEST),
        bigger(32, 128, ALL, "Without over-fitting 128 units are better than 32", SMALLEST),
        shown=(
            on("gap", at_least("C53", case(32, SOME), 0.05, f"With {SOME} 32 units over-fit")),
            bigger(32, 128, SOME, f"With {SOME}, where 32 units over-fit, 128 are better all the same"),
            on("gap", contrast("C53", case(128, SOME), "worse", "The gap is then wider with 128", against=case(32, SOME))),
        ),
        requires=(
            *(
                on("gap", at_most("C53", case(width, ALL), LARGEST_GAP, f"On {ALL} {width} units do not over-fit"))
                for width in WIDTHS[:-1]
            ),
            at_least("C53", case(8, ALL), 0.5, "The smallest network learns"),
        ),
        scope="one hidden layer of 8 to 128 units on MNIST, 1,500 steps of Adam at one rate",
    ),
    card=Card(
        published=(
            "Neyshabur et al. (2015), figure 1: with one hidden layer the test error on MNIST falls with its width, and goes "
            "on falling when the training error is 0. The figure prints no numbers."
        ),
        would_change="A network that does not over-fit and gains less than half a point with four times the hidden units.",
        quick="--seeds=2",
        figure=Figure(x="hidden units", y="share of test errors", log_x=True, log_y=True),
        deviations=(
            "Sizes of one hidden layer alone; all have one learning rate and the same steps, so that a bigger network may gain "
            "by learning faster. The source trains to convergence. At some size every gain falls below half a point."
        ),
    ),
)
