"""Claim C21: ResNet, DenseNet and Inception reach an error with fewer parameters than VGG. CIFAR-10, for an accelerator.

Paper:    Huang, Liu, van der Maaten, Weinberger, Densely connected convolutional networks, 2017, arXiv 1608.06993, Figure 4
Command:  python launch.py ablate --experiment=c21_parameters_cifar10
Result:   not run yet.

The decisive version, sized for 15 minutes of one H100: 30 runs of 10 epochs, trained side by side. c21_parameters is a
smaller version for two cores and says how fewer errors with as many parameters, and a VGG that needs its parameters, test the
claim.

All networks have the rate 0.1, a common one. Before a run it is searched for each network with a seed that the study does not
use: --vary=model:vgg,vgg_narrow,resnet,densenet,inception --vary=lr:0.03,0.1,0.3 --seed=100 --seeds=1
--metric=validation/accuracy --exploratory; where networks differ, their rates are declared here (the design zip) and
committed before the study runs.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import bounded
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.models.cifar_resnet import cifar_resnet20
from cnnlab.models.convnet import ConvNet
from cnnlab.models.densenet import cifar_densenet_bc100_12
from cnnlab.models.googlenet import googlenet_bn
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration, with_options
from experiments.claims.c21_parameters import fewer_errors, presupposed

NETWORKS = {
    "vgg": partial(ConvNet, widths=(64, 128, 256)),
    "vgg_narrow": partial(ConvNet, widths=(32, 64, 128)),
    "resnet": cifar_resnet20,
    "densenet": partial(cifar_densenet_bc100_12, blocks=(8, 8, 8), growth=12),
    "inception": partial(googlenet_bn, stem="small", width=0.22),
}
"""The networks, all with batch norm: 1,148,874, 288,746, 269,722, 264,586 and 275,494 parameters. VGG consists of three pairs
of 3x3 convolutions, as in VGG-13, and has an average over space in place of the dense layers."""

experiment = partial(
    with_options(classification, model=NETWORKS),
    model="vgg",
    data=partial(images, dataset="tfds:cifar10", batch_size=128, augment="flip_crop"),
    optimizer=partial(momentum, lr=0.1, weight_decay=0.0005),
    duration=Duration(10, "epochs"),
)

FAMILIES = {"resnet": "ResNet", "densenet": "DenseNet", "inception": "Inception"}

study = StudySpec(
    question="On CIFAR-10: do ResNet, DenseNet and Inception need fewer parameters than VGG for an error?",
    claim="C21",
    vary=("model:vgg,vgg_narrow,resnet,densenet,inception",),
    seeds=6,
    metric="test/accuracy",
    inputs=("data.dataset",),
    verdict=every(
        *fewer_errors(FAMILIES),
        shown=[
            bounded(
                "C21", f"model={name}", "not worse", 0.01, f"{says} is within a point of the VGG of four times its parameters"
            )
            for name, says in FAMILIES.items()
        ],
        requires=presupposed(["baseline", *(f"model={name}" for name in ("vgg_narrow", *FAMILIES))], 0.8),
        scope="networks of about 280,000 parameters, CIFAR-10, 10 epochs",
    ),
    card=Card(
        published="Huang et al. (2017): on CIFAR-10 DenseNets need about a third of the parameters of ResNets for the same "
        "error (Figure 4). Szegedy et al. (2015): GoogLeNet has a twelfth of AlexNet's parameters and fewer errors. None has "
        "a VGG of as many parameters.",
        would_change="A VGG that makes no more errors than one of the three of as many parameters, each at its best rate.",
        deviations="Networks of 0.3 million parameters on CIFAR-10 for 10 epochs, VGG without its dense layers.",
        figure=Figure(),
    ),
)
