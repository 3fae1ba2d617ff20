"""Claim C7: plain networks train worse when deeper, residual ones do not. 20 and 44 narrow layers on the digits, for two cores.

Paper:    He, Zhang, Ren, Sun, Deep residual learning for image recognition, 2015, arXiv 1512.03385, Figure 6
Command:  python launch.py ablate --experiment=c07_plain_vs_residual
Result:   supported at small scale; docs/claims/c07.md has the numbers.

The small version, for two cores; c07_plain_vs_residual_cifar10 has the paper's data and depths. The endpoint is the loss on
the training images over the last 35 steps, by its ratio: the claim is about optimisation. Networks have half the paper's
channels. A warm-up and decay in steps take all of them to the end of their training. In an older version of this study, at
the constant rate 0.1, the deep plain network had not left chance, which is a slow start and no degradation; so every arm must
now classify half of its training images rightly, or the claim is not tested.

That the residual network of 44 layers trains no worse has a margin in points of training accuracy. Rates are those of the
paper's recipe or smaller: of 0.01, 0.03 and 0.1 with seed 100, which the study does not use, 0.03 trained the plain network
of 44 layers best (loss 0.39 after 800 steps; 0.75 at 0.1), and that of 20 layers as well as 0.1 did (0.004). Every arm has
0.03.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.analyse.verdicts import bounded, contrast, interaction, on
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.models.cifar_resnet import cifar_plain20, cifar_plain44, cifar_resnet20, cifar_resnet44
from cnnlab.ops.optimizers import momentum
from cnnlab.ops.schedules import step
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration, with_options

NETWORKS = {
    "plain20": partial(cifar_plain20, width=0.5),
    "plain44": partial(cifar_plain44, width=0.5),
    "residual20": partial(cifar_resnet20, width=0.5),
    "residual44": partial(cifar_resnet44, width=0.5),
}
"""The networks of He et al. 2015, section 4.2, with 8, 16 and 32 channels."""

MARGIN, SOURCE = 0.007, "a quarter of the gap of about 3 points between 20 and 56 plain layers in Figure 6 of He et al."
"""Points of accuracy by which the deeper residual network may be worse, and why."""

experiment = partial(
    with_options(classification, model=NETWORKS),
    model="plain20",
    data=partial(images, dataset="digits"),
    optimizer=partial(momentum, lr=0.03, weight_decay=0.0001, schedule=partial(step, warmup=0.1)),
    duration=Duration(700, "steps"),
)


def learns(arm: str, name: str, level: float) -> Rule:
    """Returns the check that every network of an arm has left chance in training."""
    return on("train/accuracy", at_least("C7", arm, level, f"{name} have left chance in training"))


study = StudySpec(
    question="On digits of 8x8, on two cores: do 44 plain layers end training worse than 20, and do residual ones not?",
    claim="C7",
    vary=("model:plain20,plain44,residual20,residual44",),
    seeds=6,
    metric="train/loss",
    verdict=every(
        contrast("C7", "model=plain44", "worse", "44 plain layers train worse than 20", scale="log"),
        interaction(
            "C7",
            ("model=plain44", "baseline"),
            ("model=residual44", "model=residual20"),
            "worse",
            "Depth costs plain networks more than residual ones",
            scale="log",
        ),
        on(
            "train/accuracy",
            bounded(
                "C7",
                "model=residual44",
                "not worse",
                MARGIN,
                "44 residual layers train no worse than 20",
                against="model=residual20",
                source=SOURCE,
            ),
        ),
        shown=(
            contrast(
                "C7",
                "model=residual44",
                "better",
                "44 residual layers train better than 20",
                against="model=residual20",
                scale="log",
            ),
        ),
        requires=(learns("baseline", "20 plain layers", 0.9), learns("model=plain44", "44 plain layers", 0.5)),
        scope="digits of 8x8, networks of half the channels, 700 steps with warm-up and decay (small version)",
    ),
    card=Card(
        published="On CIFAR-10, 56 plain layers end with about 3 points more error than 20, in training too; 56 residual "
        "layers reach 6.97 % test error, 20 reach 8.75 % (Figure 6, Table 6).",
        would_change="44 plain layers with a training loss no higher than that of 20, at rates tuned for each.",
        deviations="Digits of 8x8 in place of CIFAR-10, half the channels, 44 layers in place of 56, 700 steps of 64 images.",
        quick="--seeds=1",
        figure=Figure(),
    ),
)
