"""Claim C53: a network that does not over-fit gets better when it is made bigger. MLPs of 8 to 128 hidden units on MNIST.

Paper:    B. Neyshabur, R. Tomioka, N. Srebro, In search of the real inductive bias, 2015, arXiv 1412.6614, figure 1; P.
          Nakkiran et al., Deep double descent, 2020, arXiv 1912.02292
Command:  python launch.py measure --experiment=c53_bigger_networks
Result:   supported at small scale; docs/claims/c53.md has the numbers.

Networks of one hidden layer of 8, 32 and 128 ReLU units learn for 1,500 steps of 64 images: all training images of MNIST,
of which they see 96,000, or 500 of them, 50 of each class drawn by the seed, over and over. A network does not over-fit where
its accuracy on the training images is at most 1.5 points above that on the 10,000 test images, which has to hold for the two
smaller networks on all images, or the claim is not tested. With 500 images they over-fit; the claim says nothing about that,
and what size does there is only shown. Seeds draw the initial weights, the order and the 500 images; on seed 0, which the
measurement does not use, a network of 4 units did not learn.

The smallest effect of interest is half a point, 50 of the 10,000 test images.
"""

import functools

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.engine.family import Family, family
from cnnlab.metric import SHARE, Metric
from cnnlab.recipes.classification import classification

CLASSES, WIDTHS = 10, (8, 32, 128)
STEPS, BATCH, RATE = 1500, 64, 0.002
FEW = 500
"""Images of the second case."""
LARGEST_GAP = 0.015
"""Share by which the accuracy on training images is above that on test images where a network does not over-fit."""
SMALLEST = 0.005
"""Smallest effect of interest, as a share of the test images."""
ALL, SOME = "all images", f"{FEW} images"
LR = "optimizer.lr"


def case(width: int, images: str) -> str:
    """Returns the name of a network on some images."""
    return f"{width} units, {images}"


@functools.cache
def trained(width: int, images: str, data_dir: str | None) -> Family:
    """Returns the compiled training of a network on all images or on those that the seed draws."""
    few = {"data.examples_per_class": FEW // CLASSES, "data.examples_seed": "run"}
    given = {
        "model": "mlp",
        "model.widths": f"{width}",
        "data.dataset": "tfds:mnist",
        "data.validation": 0.0,
        "data.batch_size": BATCH,
        "optimizer": "adam",
        "optimizer.schedule": "cosine",
        "duration": f"{STEPS} steps",
        **(few if images == SOME else {}),
    }
    return family(knobs.resolve(classification, given, {"data_dir": data_dir}), {LR: RATE})


def measure(seed: int, data_dir: str | None = None) -> Measured:
    """Returns accuracies and gaps of all sizes on all and on few images, for one draw of weights, order and images."""
    accuracy, gap, curves = {}, {}, {}
    for images in (ALL, SOME):
        for width in WIDTHS:
            (found,) = trained(width, images, data_dir).train({LR: RATE}, seed, ("train", "test")).values()
            on_test, name = found["test"]["accuracy"], case(width, images)
            accuracy[name], gap[name] = on_test, found["train"]["accuracy"] - on_test
        curves[images] = tuple((float(width), 1 - accuracy[case(width, images)]) for width in WIDTHS)
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
