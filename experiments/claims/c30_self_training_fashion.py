"""Claim C30: self-training beats training on the labelled part alone. The same test on Fashion-MNIST.

Paper:    D.-H. Lee, Pseudo-label: the simple and efficient semi-supervised learning method for deep neural networks, 2013,
          ICML workshop on challenges in representation learning, which has MNIST alone
Command:  python launch.py ablate --experiment=c30_self_training_fashion
Result:   absent (smaller than of interest); docs/claims/c30.md has the numbers.

Everything is that of c30_self_training but the images: network, rate, weight, threshold and number of labels were chosen for
digits and are not tuned anew, which is what one who trusts a claim would do. Ten kinds of clothes lie closer to one another
than digits, so that a network is also sure of more wrong labels.

Seeds that the study does not use were seen before: at a rate of 0.001, seeds 100 and 101 gave 79.3 % from labels alone and
79.6 % with pseudo-labels. With 10 labels a class, 2000 steps and seeds 100 to 102 pseudo-labels had 71.5 %, the labels alone
71.7 %, and five rounds of self-training 73.3 %.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.designs import zip_levels
from cnnlab.ablation.plan.levels import parse_vary
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from experiments.claims.c30_self_training import SMALLEST
from experiments.claims.c30_self_training import experiment as on_mnist

experiment = partial(on_mnist, data=partial(images, dataset="tfds:fashion_mnist", batch_size=32, validation=0.0))

VARY = ("method:pseudo_labels,pseudo_labels,self_training", "method.weight:0,3,3")
"""The arms; the first one learns from the labels alone."""
ALONE, PSEUDO, ROUNDS = (arm.name for arm in zip_levels(parse_vary(VARY)))

study = StudySpec(
    question="With 600 labels of Fashion-MNIST and as many steps: do pseudo-labels for the other images beat the labels alone?",
    claim="C30",
    vary=VARY,
    design="zip",
    seeds=10,
    metric="test/accuracy",
    smallest_effect=SMALLEST,
    verdict=every(
        contrast("C30", PSEUDO, "better", "Pseudo-labels of 0.95 and more beat the labels alone", against=ALONE),
        shown=(
            contrast(
                "C30",
                ROUNDS,
                "better",
                "Labels that are given three times, and stay between, beat the labels alone",
                against=ALONE,
            ),
        ),
        requires=(
            at_least("C30", ALONE, 0.7, "The labels alone teach more than seven of ten images"),
            on("train/accuracy", at_least("C30", ALONE, 0.9, "Training on the labels alone is at its end")),
        ),
        scope="Fashion-MNIST with 600 labels drawn anew by each seed, two layers of 256 and 128 ReLU units, 1000 steps of Adam",
    ),
    card=Card(
        published="None on these images: Lee (2013) has MNIST.",
        would_change="Ten draws of the labels after which pseudo-labels are worse, or better by less than a point.",
        deviations="Other images than the source's, with the settings that were chosen for digits.",
        quick="--seeds=1",
        figure=Figure(),
    ),
)
