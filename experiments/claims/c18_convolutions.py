"""Claim C18: a convolutional network beats a fully connected one with as many parameters, and stays ahead on shifted images.

Paper:    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, 1998, figure 9
Command:  python launch.py ablate --experiment=c18_convolutions
Result:   supported at small scale; docs/claims/c18.md has the numbers.

LeNet-5 has 61,706 parameters, an MLP with 77 hidden units 61,225. Both learn the same images for as many steps at the same rate
and are tested on the 10,000 test images of MNIST as they are and shifted by 2 and by 4 pixels. Every seed draws 2,000 training
images of each class; no variation shifts these.

The control decides whether it is the neighbourhood of pixels that convolutions use: with the pixels of all images in the order
of one permutation the MLP has to learn as well as before, and LeNet-5 has to lose some of its lead.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.verdicts import bounded, contrast, equivalent, interaction, on
from cnnlab.ablation.plan.study import BASELINE, Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.models.lenet import LeNet5
from cnnlab.models.mlp import MLP
from cnnlab.ops.optimizers import momentum
from cnnlab.values import Duration, with_options
from experiments.claims.c17_pooling import shifted_classification

NETWORKS = {"lenet5": LeNet5, "mlp_77": partial(MLP, widths=(77,))}
"""Networks of 61,706 and 61,225 parameters."""

experiment = partial(
    with_options(shifted_classification, model=NETWORKS),
    data=partial(images, dataset="tfds:mnist", batch_size=64, validation=0.0, examples_per_class=2000, examples_seed="run"),
    optimizer=partial(momentum, lr=0.02),
    duration=Duration(3, "epochs"),
    shifts=(2, 4),
)

MLP_ARM, PERMUTED, PERMUTED_MLP = "model=mlp_77", "control=permute_pixels", "model=mlp_77, control=permute_pixels"
SMALLEST = 0.009
"""Smallest effect of interest, as a share: a quarter of the 3.75 points between the two networks of the source."""

study = StudySpec(
    question="With as many parameters, does LeNet-5 classify digits better than an MLP, and shifted ones too?",
    claim="C18",
    vary=("model:lenet5,mlp_77", "control:none,permute_pixels"),
    seeds=6,
    metric="test/accuracy",
    allow=("data",),
    smallest_effect=SMALLEST,
    verdict=every(
        contrast("C18", MLP_ARM, "worse", "The MLP makes more errors than LeNet-5", smallest=SMALLEST),
        on(
            "test/shift_4_accuracy",
            contrast("C18", MLP_ARM, "worse", "On digits shifted by 4 pixels it does too", smallest=SMALLEST),
        ),
        shown=(
            on("test/shift_2_accuracy", contrast("C18", MLP_ARM, "worse", "On digits shifted by 2 pixels it does too")),
            on("test/shift_loss", contrast("C18", MLP_ARM, "worse", "The MLP loses more accuracy by the shifts")),
            bounded(
                "C18",
                PERMUTED,
                "not better",
                SMALLEST,
                "With permuted pixels LeNet-5 is not better than the MLP by as much",
                against=PERMUTED_MLP,
                source="a quarter of the gap of the source",
            ),
        ),
        requires=(
            at_least("C18", MLP_ARM, 0.92, "The MLP learns the digits"),
            equivalent(
                "C18",
                PERMUTED_MLP,
                0.005,
                "With permuted pixels the MLP learns as well as before (the control)",
                against=MLP_ARM,
                source="50 of the 10,000 test images",
            ),
            interaction(
                "C18",
                (BASELINE, MLP_ARM),
                (PERMUTED, PERMUTED_MLP),
                "better",
                "With permuted pixels LeNet-5 loses some of its lead (the control)",
            ),
        ),
        scope="LeNet-5 and an MLP of one hidden layer on 20,000 images of MNIST, 3 epochs, one learning rate",
    ),
    card=Card(
        published=(
            "LeCun et al. (1998), figure 9, test errors on MNIST: 0.95 % for LeNet-5, 4.7 % for a fully connected network with "
            "300 hidden units, which has four times as many parameters; none on shifted digits without training on them."
        ),
        would_change="An MLP of as many parameters whose error is less than 0.9 points above LeNet-5's, shifted or not.",
        quick="--seeds=2 --steps=100",
        figure=Figure(),
        deviations=(
            "Cut to two cores: a third of the training images, 3 epochs. ReLU, max pooling and softmax for the units and "
            "outputs of 1998; one hidden layer, whose width the number of parameters gives."
        ),
    ),
)
