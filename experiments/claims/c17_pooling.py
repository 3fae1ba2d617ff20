"""Claim C17: pooling makes a network more robust to small shifts. LeNet-5 on MNIST, with what shrinks its maps exchanged.

Paper:    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, 1998, section
          II.A; R. Zhang, Making convolutional networks shift-invariant again, 2019, arXiv 1904.11486
Command:  python launch.py ablate --experiment=c17_pooling
Result:   supported at small scale; docs/claims/c17.md has the numbers.

Four networks of the same parameters halve their maps twice: by keeping every second pixel, as a convolution of stride 2 does,
by the largest of 2x2, by the mean of 2x2, and by the largest at every pixel with a blurred sampling after it (Zhang 2019). The
10,000 test images lie in a frame of 4 pixels and are shifted by 1 to 4, each by the side that its number says. The endpoint is
the accuracy that is lost over these shifts in the mean; `same_answer` is the share of shifted images whose class is the one
that was predicted without the shift. Every seed draws 1,000 training images of each class; no variation shifts these.

The least effect of interest is half a point, 50 test images: no source has a number in this setting. What is exact about
pooling and shifts, c17_circular_shifts has.
"""

import dataclasses
from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.study import BASELINE, Card, Figure, StudySpec
from cnnlab.core import Experiment
from cnnlab.data.images import PIPELINES, images
from cnnlab.data.resize import pad
from cnnlab.models import MODELS
from cnnlab.models.layers import POOLS
from cnnlab.models.lenet import LeNet5
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.optimizers import OPTIMIZERS, momentum
from cnnlab.recipes.classification import Control, classification
from cnnlab.tasks.shifted import LOST, SAME, with_shifts
from cnnlab.values import Choice, Duration


def shifted_classification(
    *,
    model: Choice[MODELS] = "lenet5",
    data: Choice[PIPELINES] = "images",
    optimizer: Choice[OPTIMIZERS] = "momentum",
    duration: Duration = Duration(400, "steps"),
    control: Control = "none",
    shifts: tuple[int, ...] = (1, 2, 3, 4),
) -> Experiment:
    """Classification of images that are measured at the end of a run once more, shifted.

    Args:
        model: network.
        data: images with labels, and how they become batches.
        optimizer: rule by which the weights are updated.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        control: permute_pixels puts the pixels of all images into the order of one permutation; see classification.
        shifts: numbers of pixels by which the test images are shifted.
    """
    single = classification(model=model, data=data, loss=cross_entropy, optimizer=optimizer, duration=duration, control=control)
    return dataclasses.replace(single, task=with_shifts(single.task, shifts))


experiment = partial(
    shifted_classification,
    model=partial(LeNet5, pool=POOLS["stride"]),
    data=partial(
        images,
        dataset="tfds:mnist",
        image_size=36,
        image_fit=pad,
        batch_size=64,
        validation=0.0,
        examples_per_class=1000,
        examples_seed="run",
    ),
    optimizer=partial(momentum, lr=0.02),
)

SMALLEST = 0.005
"""Smallest effect of interest, as a share of the test images."""
ARMS = {BASELINE: "every second pixel", "pool=max": "max", "pool=average": "average", "pool=blur": "blurred max"}


def keeps_more(arm: str, against: str, says: str, smallest: float | None = None) -> Rule:
    """Returns the rule that a network loses less accuracy by the shifts than another."""
    return contrast("C17", arm, "better", says, against=against, smallest=smallest)


study = StudySpec(
    question="Does a network that pools lose less accuracy on shifted digits than one that keeps every second pixel?",
    claim="C17",
    vary=("pool:stride,max,average,blur",),
    seeds=6,
    metric=f"test/{LOST}",
    smallest_effect=SMALLEST,
    verdict=every(
        keeps_more("pool=max", BASELINE, "Max pooling loses less by shifts than keeping every second pixel", SMALLEST),
        keeps_more("pool=average", BASELINE, "Average pooling loses less by shifts than keeping every second pixel", SMALLEST),
        shown=(
            keeps_more("pool=blur", "pool=max", "Blurred max pooling loses less than max pooling"),
            keeps_more("pool=average", "pool=max", "Average pooling loses less than max pooling"),
            *(
                on(f"test/{SAME}", contrast("C17", arm, "better", f"With {ARMS[arm]} pooling more answers stay the same"))
                for arm in ("pool=max", "pool=average")
            ),
            on(
                "test/shift_1_accuracy",
                contrast("C17", "pool=max", "better", "After a shift of one pixel max pooling is ahead"),
            ),
        ),
        requires=(
            *(
                on("test/accuracy", at_least("C17", arm, 0.93, f"With {what} the network learns the digits"))
                for arm, what in ARMS.items()
            ),
            at_least("C17", BASELINE, 0.02, "The shifts cost accuracy without pooling (the control)"),
        ),
        scope="LeNet-5 on 10,000 images of MNIST in a frame of 4 pixels, 400 steps, shifts of 1 to 4 pixels",
    ),
    card=Card(
        published=(
            "None in this setting. LeCun et al. (1998) sub-sample to make the output less sensitive to shifts; Azulay and "
            "Weiss (2019) find ImageNet's networks, which pool, sensitive to a shift of one pixel; Zhang (2019) reduces it."
        ),
        would_change="A network that keeps every second pixel and loses less than half a point more than those that pool.",
        quick="--seeds=2 --steps=100",
        figure=Figure(y="accuracy lost by shifts of 1 to 4 pixels (points)"),
        deviations=(
            "Cut to two cores: 1,000 images a class, 400 steps. The dense layers of LeNet-5 see where a feature lies, so that "
            "no pooling makes it invariant; networks that end in a mean over space are not tested here."
        ),
    ),
)
