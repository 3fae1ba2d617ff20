"""Claim C38: depth-wise separable convolutions give more accuracy for each multiply-accumulate. Convnets on Fashion-MNIST.

Paper:    A. G. Howard et al., MobileNets: efficient convolutional neural networks for mobile vision applications, 2017, arXiv
          1704.04861, Table 4; F. Chollet, Xception, 2017, arXiv 1610.02357
Command:  python launch.py ablate --experiment=c38_separable
Result:   absent; docs/claims/c38.md has the numbers. 20 min on 2 CPU cores.

Four convolutions, with pooling in between, have w, 2 w, 4 w and 4 w maps; in the separable form all but the first, which sees
the image, are a depth-wise convolution of 3x3 and one of 1x1. Each form has four widths, chosen so that both cover 0.4 to 1.9
million multiply-accumulates. The accuracy of a form between its widths is interpolated linearly in the logarithm of these, seed
by seed, and the difference of the forms is averaged over all that both cover.

The smallest effect of interest is half a point, which is what a full convnet here gains from a third more operations; by the
source a separable one should gain as much as from six times as many.

The rate was chosen on seed 100, which the study does not use, with the second width of each form and 450 steps: of 0.01, 0.02
and 0.04 the full form had 87.1, 87.0 and 86.7 %, the separable one 86.3, 86.9 and 86.9 %; 0.02 is taken for both. Pilots at a
rate of 0.005, of 300 steps on seed 101, had the separable form 0.4 to 0.9 points lower at equal operations.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.matched_cost import at_matched_cost
from cnnlab.ablation.analyse.verdicts import contrast
from cnnlab.ablation.plan.designs import zip_levels
from cnnlab.ablation.plan.levels import parse_vary
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.models.convnet import ConvNet
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model=partial(ConvNet, depth=1),
    data=partial(images, dataset="tfds:fashion_mnist", batch_size=64, validation=0.0),
    optimizer=partial(adam, lr=0.02, schedule="cosine"),
    duration=Duration(900, "steps"),
)


def form_and_width(widths: Mapping[str, Sequence[int]]) -> tuple[str, str]:
    """Returns the knobs of one arm for each form and width, to vary side by side.

    Args:
        widths: {form: maps of the first convolution, one number for each arm}.
    """
    return (
        f"model.convolution:{','.join(form for form, firsts in widths.items() for _ in firsts)}",
        f"model.widths:{','.join(f'({w},{2 * w},{4 * w},{4 * w})' for firsts in widths.values() for w in firsts)}",
    )


def learning(families: Mapping[str, Sequence[str]], least: float) -> tuple[Any, ...]:
    """Returns the rules that both forms learn at all, and more with more operations.

    Args:
        families: {form: its arms, from the smallest to the largest}.
        least: accuracy that the smallest have to reach.
    """
    full, separable = families["full"], families["separable"]
    return (
        at_least("C38", full[0], least, "The smallest full network learns"),
        at_least("C38", separable[0], least, "The smallest separable network learns"),
        contrast("C38", full[-1], "better", "More operations help the full form", against=full[0]),
        contrast("C38", separable[-1], "better", "And the separable form", against=separable[0]),
    )


VARY = form_and_width({"full": (6, 8, 11, 15), "separable": (16, 22, 30, 40)})
_ARMS = [arm.name for arm in zip_levels(parse_vary(VARY))]
FAMILIES = {"separable": _ARMS[4:], "full": _ARMS[:4]}
PUBLISHED = (
    "Howard et al. (2017), Table 4, ImageNet: 70.6 % with 569 million multiply-accumulates, 71.7 % with full "
    "convolutions of as many maps and 4866 million; Table 6: 63.7 % with 149 million."
)
SMALLEST = 0.005
"""Smallest effect of interest, as a share of the test images."""

study = StudySpec(
    question="At equal multiply-accumulates, does a convnet of separable convolutions classify better than one of full ones?",
    claim="C38",
    vary=VARY,
    design="zip",
    seeds=5,
    metric="test/accuracy",
    smallest_effect=SMALLEST,
    verdict=every(
        at_matched_cost("C38", FAMILIES, "better", "At equal multiply-accumulates separable convolutions classify better"),
        shown=(
            at_matched_cost("C38", FAMILIES, "better", "So they do with few", at=420_000),
            at_matched_cost("C38", FAMILIES, "better", "And with many", at=1_800_000),
            at_matched_cost("C38", FAMILIES, "better", "At equal numbers of parameters they do", cost="parameters"),
            at_matched_cost("C38", FAMILIES, "worse", "At equal time of training they do worse", cost="seconds"),
        ),
        requires=learning(FAMILIES, least=0.75),
        scope="convnets of four convolutions of 6 to 160 maps on Fashion-MNIST, 900 steps of Adam from scratch at one rate",
    ),
    card=Card(
        published=PUBLISHED,
        would_change="Separable convnets that are better by less than half a point at equal multiply-accumulates, or worse.",
        quick="--seeds=1 --steps=100",
        figure=Figure(x="macs", lines="model.convolution", log_x=True),
        deviations=(
            "Four convolutions of up to 160 maps, where MobileNet has 27 of up to 1024 and saves 8 to 9 times in each; images "
            "of 28x28, about one epoch, and one learning rate for both forms."
        ),
    ),
)
