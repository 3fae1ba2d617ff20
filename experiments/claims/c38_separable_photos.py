"""Claim C38: depth-wise separable convolutions give more accuracy for each multiply-accumulate. The same test on CIFAR-10.

Paper:    A. G. Howard et al., MobileNets: efficient convolutional neural networks for mobile vision applications, 2017, arXiv
          1704.04861, Table 4; F. Chollet, Xception, 2017, arXiv 1610.02357
Command:  python launch.py ablate --experiment=c38_separable_photos --data_dir=DIR
Result:   supported at small scale; docs/claims/c38.md has the numbers.

Network, optimiser and rate are those of c38_separable, and were chosen for Fashion-MNIST; nothing is tuned anew. The widths are
others, since the first convolution, which no form splits, sees three colours: both forms cover 0.6 to 2.8 million
multiply-accumulates. Steps are fewer, 600, two thirds of an epoch.

The smallest effect of interest is a point, twice that of c38_separable: accuracies are lower here, and seeds differ more. No
run of these arms was seen before the test was declared.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.matched_cost import at_matched_cost
from cnnlab.ablation.plan.designs import zip_levels
from cnnlab.ablation.plan.levels import parse_vary
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.values import Duration
from experiments.claims.c38_separable import PUBLISHED, form_and_width, learning
from experiments.claims.c38_separable import experiment as on_fashion

experiment = partial(
    on_fashion, data=partial(images, dataset="tfds:cifar10", batch_size=64, validation=0.0), duration=Duration(600, "steps")
)

VARY = form_and_width({"full": (6, 8, 11, 15), "separable": (11, 16, 24, 36)})
_ARMS = [arm.name for arm in zip_levels(parse_vary(VARY))]
FAMILIES = {"separable": _ARMS[4:], "full": _ARMS[:4]}

study = StudySpec(
    question="On CIFAR-10, at equal multiply-accumulates: does a convnet of separable convolutions classify better?",
    claim="C38",
    vary=VARY,
    design="zip",
    seeds=5,
    metric="test/accuracy",
    smallest_effect=0.01,
    verdict=every(
        at_matched_cost("C38", FAMILIES, "better", "At equal multiply-accumulates separable convolutions classify better"),
        shown=(
            at_matched_cost("C38", FAMILIES, "better", "So they do with few", at=650_000),
            at_matched_cost("C38", FAMILIES, "better", "And with many", at=2_600_000),
            at_matched_cost("C38", FAMILIES, "better", "At equal numbers of parameters they do", cost="parameters"),
        ),
        requires=learning(FAMILIES, least=0.35),
        scope="convnets of four convolutions of 6 to 144 maps on CIFAR-10, 600 steps of Adam from scratch at one rate",
    ),
    card=Card(
        published=PUBLISHED,
        would_change="Separable convnets that are better by less than a point at equal multiply-accumulates, or worse.",
        quick="--seeds=1 --steps=100",
        figure=Figure(x="macs", lines="model.convolution", log_x=True),
        deviations=(
            "Four convolutions of up to 144 maps, where MobileNet has 27 of up to 1024 and saves 8 to 9 times in each; images "
            "of 32x32, less than an epoch, and a rate that was chosen on other images."
        ),
    ),
)
