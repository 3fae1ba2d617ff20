"""Claim C7: plain networks train worse when deeper, residual ones do not. 20 and 56 layers on CIFAR-10, for an accelerator.

Paper:    He, Zhang, Ren, Sun, Deep residual learning for image recognition, 2015, arXiv 1512.03385, Figure 6
Command:  python launch.py ablate --experiment=c07_plain_vs_residual_cifar10
Result:   not run yet.

The decisive version, sized for 15 minutes of one H100: 24 runs of 12 epochs, trained side by side. c07_plain_vs_residual is a
smaller version for two cores. The paper's depths and recipe (rate 0.1, momentum, weight decay 0.0001, the rate divided by 10
at half and three quarters, its augmentation) with 400 steps of warm-up, as the paper uses for 110 layers, so that no network
stays at chance. Half the paper's channels keep it within the time. The endpoint is the error on augmented training images
over the last 50 steps, on the scale of log odds. Arms that have not left chance leave the claim not tested.

Rates: 0.1 is the paper's, for all its networks. Before a run, check that it suits the deep plain network too, with seeds that
the study does not use: --model=plain56 --vary=lr:0.03,0.1 --seed=100 --seeds=1 --exploratory. Other files of CIFAR-10 than
TFDS's can be named by --dataset.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.verdicts import bounded, contrast, interaction
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.models.cifar_resnet import cifar_plain20, cifar_plain56, cifar_resnet20, cifar_resnet56
from cnnlab.ops.optimizers import momentum
from cnnlab.ops.schedules import step
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration, with_options
from experiments.claims.c07_plain_vs_residual import MARGIN, SOURCE

NETWORKS = {
    "plain20": partial(cifar_plain20, width=0.5),
    "plain56": partial(cifar_plain56, width=0.5),
    "residual20": partial(cifar_resnet20, width=0.5),
    "residual56": partial(cifar_resnet56, width=0.5),
}
"""The networks of He et al. 2015, section 4.2, with 8, 16 and 32 channels."""

experiment = partial(
    with_options(classification, model=NETWORKS),
    model="plain20",
    data=partial(images, dataset="tfds:cifar10", batch_size=128, augment="flip_crop"),
    optimizer=partial(momentum, lr=0.1, weight_decay=0.0001, schedule=partial(step, warmup=0.095)),
    duration=Duration(12, "epochs"),
)

study = StudySpec(
    question="On CIFAR-10: do 56 plain layers end training with more errors than 20, and do residual ones not?",
    claim="C7",
    vary=("model:plain20,plain56,residual20,residual56",),
    seeds=6,
    metric="train/accuracy",
    inputs=("data.dataset",),
    verdict=every(
        contrast("C7", "model=plain56", "worse", "56 plain layers train worse than 20", scale="logit"),
        interaction(
            "C7",
            ("model=plain56", "baseline"),
            ("model=residual56", "model=residual20"),
            "worse",
            "Depth costs plain networks more than residual ones",
            scale="logit",
        ),
        bounded(
            "C7",
            "model=residual56",
            "not worse",
            MARGIN,
            "56 residual layers train no worse than 20",
            against="model=residual20",
            source=SOURCE,
        ),
        requires=(
            at_least("C7", "baseline", 0.6, "20 plain layers have left chance in training"),
            at_least("C7", "model=plain56", 0.3, "56 plain layers have left chance in training"),
        ),
        scope="CIFAR-10, networks of half the channels, 12 epochs with warm-up and decay",
    ),
    card=Card(
        published="On CIFAR-10, 56 plain layers end with about 3 points more error than 20, in training too; 56 residual "
        "layers reach 6.97 % test error, 20 reach 8.75 % (Figure 6, Table 6).",
        would_change="56 plain layers with no more training errors than 20, at rates tuned for each.",
        deviations="Half the paper's channels, 12 epochs in place of about 180, and a warm-up for all networks.",
        figure=Figure(),
    ),
)
