"""Claim C3: ReLU trains faster than tanh and sigmoid. Steps to 25 % training error on CIFAR-10, for an accelerator.

Paper:    Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional neural networks, 2012, Figure 1
Command:  python launch.py ablate --experiment=c03_activations_cifar10
Result:   not run yet.

The decisive version, sized for 15 minutes of one H100: 40 runs of 15 epochs, trained side by side. c03_activations is a
smaller version for two cores and says how the number of steps is found. The paper's endpoint and data: a convolutional
network with 32, 32 and 64 maps of 5x5, the steps until a quarter of the training images are classified wrongly. Each
activation has an initialiser made for it; that He's favours ReLU, and tanh in it is a straw man, is seen from two more arms,
which are only shown.

The rates are those that the small version found best or next to it. Before a run they are searched at this size with seeds
that the study does not use, for each activation: --activation=tanh --initializer=xavier --vary=lr:0.003,0.01,0.03,0.1,0.3,1
--seed=100 --seeds=3 --exploratory; where others are better, they are declared here and committed before the study runs.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.models.convnet import ConvNet
from cnnlab.models.norms import no_norm
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration
from experiments.claims.c03_activations import SMALLEST, STEPS

experiment = partial(
    classification,
    model=partial(ConvNet, widths=(32, 32, 64), depth=1, kernel=5, norm=no_norm),
    data=partial(images, dataset="tfds:cifar10", batch_size=128),
    optimizer=partial(momentum, lr=0.03, schedule="constant"),
    duration=Duration(15, "epochs"),
)

TANH, SIGMOID = "activation=tanh, initializer=xavier, lr=0.1", "activation=sigmoid, initializer=xavier, lr=0.3"
XAVIER, HE = "initializer=xavier", "activation=tanh, lr=0.1"

study = StudySpec(
    question="On CIFAR-10: how many steps do ReLU, tanh and sigmoid units need to 25 % training error, each at its best rate?",
    claim="C3",
    vary=(
        "activation:relu,tanh,sigmoid,relu,tanh",
        "initializer:he,xavier,xavier,xavier,he",
        "lr:0.03,0.1,0.3,0.03,0.1",
    ),
    design="zip",
    seeds=8,
    metric=STEPS,
    inputs=("data.dataset",),
    verdict=every(
        contrast("C3", TANH, "worse", "Tanh takes more steps than ReLU", smallest=SMALLEST, scale="log"),
        contrast("C3", SIGMOID, "worse", "Sigmoid takes more steps than ReLU", smallest=SMALLEST, scale="log"),
        shown=(
            contrast(
                "C3", TANH, "worse", "Tanh takes more steps than ReLU from the same initialiser", against=XAVIER, scale="log"
            ),
            contrast("C3", HE, "worse", "Tanh takes more steps than ReLU, both from He's initialiser", scale="log"),
        ),
        requires=(on("train/accuracy", at_least("C3", "baseline", 0.75, "ReLU reaches 25 % training error")),),
        scope="CIFAR-10, three convolutions, 15 epochs at a constant rate",
    ),
    card=Card(
        published="Krizhevsky et al. (2012), Figure 1: a network of four layers reaches 25 % training error on CIFAR-10 six "
        "times faster with ReLU than with tanh. No number for sigmoid.",
        would_change="Tanh within a factor of two of ReLU, each at its best rate and initialiser.",
        deviations="No regularisation or augmentation, and a mean over space before the last layer.",
        figure=Figure(y="steps to 25 % training error", log_y=True),
    ),
)
