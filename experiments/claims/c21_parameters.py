"""Claim C21: ResNet and DenseNet reach an error with fewer parameters than VGG. Small networks on Fashion-MNIST, for two cores.

Paper:    Huang, Liu, van der Maaten, Weinberger, Densely connected convolutional networks, 2017, arXiv 1608.06993, Figure 4
Command:  python launch.py ablate --experiment=c21_parameters
Result:   not shown; docs/claims/c21.md has the numbers.

The small version, for two cores; c21_parameters_cifar10 has larger networks, and Inception among them, whose modules cannot
be narrowed to this size: at an eighth of its width the narrowest branch has two channels. A family needs fewer parameters
than VGG for an error where, with no more parameters than a VGG, it makes fewer errors, and VGG needs more parameters for
fewer errors. The second is a requirement: where a VGG of four times the parameters is no better, the data need no large
network, no family can show anything, and the claim is not tested. An older version of this study, on digits of 8x8, failed by
that.

10,000 training images at 14x14, and 10,000 test images. Accuracies are compared by their log odds. Every network must have
fitted its training images as far as the time allows (85 % in the last 25 steps). All have the rate 0.15, chosen by validation
accuracy after 300 steps of seed 100, which the study does not use: it was better than 0.05 for the narrow VGG (85.1 against
83.7 %) and the ResNet (85.1 against 84.2 %); the DenseNet had 83.8 % at 0.05 and was not tried at 0.15.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.analyse.verdicts import bounded, contrast, on
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.models.cifar_resnet import cifar_resnet20
from cnnlab.models.convnet import ConvNet
from cnnlab.models.densenet import cifar_densenet_bc100_12
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration, with_options

NETWORKS = {
    "vgg": partial(ConvNet, widths=(16, 32, 64)),
    "vgg_narrow": partial(ConvNet, widths=(8, 16, 32)),
    "resnet": partial(cifar_resnet20, stages=(1, 1, 1), width=0.5),
    "densenet": partial(cifar_densenet_bc100_12, blocks=(4, 4, 4), growth=5),
}
"""The networks, all with batch norm: 72,666, 18,482, 19,074 and 18,675 parameters. VGG consists of three pairs of 3x3
convolutions, as in VGG-13, and has an average over space in place of the dense layers."""

experiment = partial(
    with_options(classification, model=NETWORKS),
    model="vgg",
    data=partial(images, dataset="tfds:fashion_mnist", image_size=14, batch_size=128, examples_per_class=1000),
    optimizer=partial(momentum, lr=0.15, weight_decay=0.0005),
    duration=Duration(500, "steps"),
)

FAMILIES = {"resnet": "ResNet", "densenet": "DenseNet"}


def fewer_errors(families: dict[str, str]) -> list[Rule]:
    """Returns the parts that a family makes fewer errors than a VGG with at least as many parameters.

    Args:
        families: {name of the network: how it is written}.
    """
    return [
        contrast(
            "C21",
            f"model={name}",
            "better",
            f"{says} makes fewer errors than VGG with as many parameters",
            against="model=vgg_narrow",
            scale="logit",
        )
        for name, says in families.items()
    ]


def presupposed(names: list[str], level: float) -> list[Rule]:
    """Returns what the claim presupposes: VGG needs its parameters, and all networks fit their training images.

    Args:
        names: names of the arms.
        level: share of the training images that every run classifies rightly at the end.
    """
    needs = contrast(
        "C21", "model=vgg_narrow", "worse", "A VGG of a quarter of the parameters makes more errors", scale="logit"
    )
    return [needs, *(on("train/accuracy", at_least("C21", name, level, f"{name} fits its training images")) for name in names)]


study = StudySpec(
    question="On Fashion-MNIST at 14x14, on two cores: do ResNet and DenseNet need fewer parameters than VGG for an error?",
    claim="C21",
    vary=("model:vgg,vgg_narrow,resnet,densenet",),
    seeds=6,
    metric="test/accuracy",
    verdict=every(
        *fewer_errors(FAMILIES),
        shown=[
            bounded(
                "C21", f"model={name}", "not worse", 0.01, f"{says} is within a point of the VGG of four times its parameters"
            )
            for name, says in FAMILIES.items()
        ],
        requires=presupposed(["baseline", *(f"model={name}" for name in ("vgg_narrow", *FAMILIES))], 0.85),
        scope="networks of about 20,000 parameters, 10,000 images of Fashion-MNIST at 14x14, 500 steps (small version)",
    ),
    card=Card(
        published="Huang et al. (2017): on CIFAR-10 DenseNets need about a third of the parameters of ResNets for the same "
        "error (Figure 4). Szegedy et al. (2015): GoogLeNet has a twelfth of AlexNet's parameters and fewer errors. None has "
        "a VGG of as many parameters.",
        would_change="A VGG that makes no more errors than a ResNet or DenseNet of as many parameters, each at its best rate.",
        deviations="Networks and images a hundred times smaller, and no Inception network.",
        quick="--seeds=1",
        figure=Figure(),
    ),
)
