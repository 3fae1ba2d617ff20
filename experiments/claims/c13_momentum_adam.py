"""Claim C13: SGD with momentum, tuned, ends at least as well as Adam. LeNet-5 on Fashion-MNIST, for two cores.

Paper:    Wilson, Roelofs, Stern, Srebro, Recht, The marginal value of adaptive gradient methods, 2017, arXiv 1705.08292
Command:  python launch.py ablate --experiment=c13_momentum_adam
Result:   not tested; docs/claims/c13.md has the numbers.

The small version, for two cores; c13_momentum_adam_cifar10 is the decisive one. "At least as well" is a test of
non-inferiority: Adam is better by no more than 0.3 points of accuracy on 10,000 test images. That neither is better by as
much is shown beside it, by two one-sided tests, since the claim is contested: Choi et al. (2019, arXiv 1910.05446) find a
tuned Adam never worse. Both have a cosine schedule, batches of 128 and no weight decay.

Rates were chosen after one epoch with seed 100, which the study does not use, by validation accuracy: momentum had 86.9, 87.5
and 86.3 % at 0.02, 0.05 and 0.1, Adam 86.2, 87.1 and 87.8 % at 0.001, 0.002 and 0.004, 87.6 % at 0.008. Longer searches
belong to the decisive version.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.verdicts import bounded, equivalent
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

MARGIN, SOURCE = 0.003, "the least difference that eight seeds and 10,000 test images can show"
"""Share of the test images by which Adam may be better, and why."""

experiment = partial(
    classification,
    model="lenet5",
    data=partial(images, dataset="tfds:fashion_mnist", batch_size=128),
    optimizer=partial(momentum, lr=0.05),
    duration=Duration(6, "epochs"),
)

ADAM = "optimizer=adam, lr=0.004"

study = StudySpec(
    question="With LeNet-5 on Fashion-MNIST, on two cores: does tuned SGD with momentum end at least as well as tuned Adam?",
    claim="C13",
    vary=("optimizer:momentum,adam", "lr:0.05,0.004"),
    design="zip",
    seeds=8,
    metric="test/accuracy",
    verdict=every(
        bounded("C13", ADAM, "not better", MARGIN, "Adam ends no better than SGD with momentum", source=SOURCE),
        shown=(equivalent("C13", ADAM, MARGIN, "Adam and SGD with momentum end equally well", source=SOURCE),),
        requires=(
            at_least("C13", "baseline", 0.87, "SGD with momentum reaches what LeNet-5 reaches on Fashion-MNIST"),
            at_least("C13", ADAM, 0.87, "Adam reaches what LeNet-5 reaches on Fashion-MNIST"),
        ),
        scope="LeNet-5 on Fashion-MNIST, 6 epochs (small version)",
    ),
    card=Card(
        published="With equal tuning SGD, with momentum or without, has lower test errors than adaptive methods on all four "
        "tasks of Wilson et al. (2017); on CIFAR-10 SGD has 7.65 ± 0.14 %, the best adaptive method 9.60 ± 0.19 %.",
        would_change="Adam better by more than 0.3 points with its rate, decay and epsilon tuned on validation images.",
        deviations="LeNet-5 on Fashion-MNIST for 6 epochs; of each optimiser only the learning rate is tuned, with one seed "
        "and one epoch. At the rate that this gave momentum one of eight seeds trained badly, which leaves the claim not "
        "tested.",
        quick="--seeds=1",
        figure=Figure(),
    ),
)
