"""Claim C13: SGD with momentum, tuned, ends at least as well as Adam. ResNet-20 on CIFAR-10, for an accelerator.

Paper:    Wilson, Roelofs, Stern, Srebro, Recht, The marginal value of adaptive gradient methods, 2017, arXiv 1705.08292
Command:  python launch.py ablate --experiment=c13_momentum_adam_cifar10
Result:   not run yet.

The decisive version, sized for 15 minutes of one H100: 16 runs of 15 epochs, trained side by side. c13_momentum_adam is a
smaller version for two cores. ResNet-20 with the usual augmentation, a cosine schedule and batches of 128; the test split has
10,000 images. The rate and the weight decay are common ones and not the result of a search at this length. Before a run each
optimiser gets a random search of 20 trials, by the accuracy on 5,000 validation images, with a seed that the study does not
use; where it finds better settings, they are declared here and committed before the study runs:

    python launch.py ablate --experiment=c13_momentum_adam_cifar10 --design=random --trials=20 --seed=100 --seeds=1 \\
        --vary='lr:log(0.01,1)' --vary='weight_decay:log(1e-5,1e-2)' --vary='optimizer.momentum:uniform(0.8,0.99)' \\
        --metric=validation/accuracy --exploratory

and the same with --optimizer=adam, lr:log(1e-4,1e-2) and optimizer.b1 in place of optimizer.momentum.
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
from experiments.claims.c13_momentum_adam import MARGIN, SOURCE

experiment = partial(
    classification,
    model="cifar_resnet20",
    data=partial(images, dataset="tfds:cifar10", batch_size=128, augment="flip_crop"),
    optimizer=partial(momentum, lr=0.1, weight_decay=0.0005),
    duration=Duration(15, "epochs"),
)

ADAM = "optimizer=adam, lr=0.003, weight_decay=0.0001"

study = StudySpec(
    question="With ResNet-20 on CIFAR-10: does tuned SGD with momentum end at least as well as tuned Adam?",
    claim="C13",
    vary=("optimizer:momentum,adam", "lr:0.1,0.003", "weight_decay:0.0005,0.0001"),
    design="zip",
    seeds=8,
    metric="test/accuracy",
    inputs=("data.dataset",),
    verdict=every(
        bounded("C13", ADAM, "not better", MARGIN, "Adam ends no better than SGD with momentum", source=SOURCE),
        shown=(equivalent("C13", ADAM, MARGIN, "Adam and SGD with momentum end equally well", source=SOURCE),),
        requires=(
            at_least("C13", "baseline", 0.85, "SGD with momentum reaches what ResNet-20 reaches in 15 epochs"),
            at_least("C13", ADAM, 0.85, "Adam reaches what ResNet-20 reaches in 15 epochs"),
        ),
        scope="ResNet-20 on CIFAR-10, 15 epochs",
    ),
    card=Card(
        published="With equal tuning SGD, with momentum or without, has lower test errors than adaptive methods on all four "
        "tasks of Wilson et al. (2017); on CIFAR-10 SGD has 7.65 ± 0.14 %, the best adaptive method 9.60 ± 0.19 %.",
        would_change="Adam better by more than 0.3 points with settings from a search as long as that of momentum.",
        deviations="ResNet-20 in place of VGG, 15 epochs in place of 250.",
        figure=Figure(),
    ),
)
