"""Claim C14: a learning rate can be too low or too high, and decay in steps beats every constant rate. LeNet-5 on digits.

Paper:    Bengio, Practical recommendations for gradient-based training of deep architectures, 2012, arXiv 1206.5533
Command:  python launch.py ablate --experiment=c14_learning_rate
Result:   supported at small scale; docs/claims/c14.md has the numbers.

Seven constant rates, half a decade apart, and one run with decay in steps: from 0.01, divided by 10 after half and after
three quarters of the 800 steps. The claim about the rate is the shape of the curve: a minimum inside the grid, both ends
worse. A run that diverges, or that ends at chance as most do at 0.1, is evidence that the rate is too high. The claim about
decay needs two controls, since a schedule that ends at 0.0001 could be better merely because 0.01 is too high all along: it
must beat the constant rate that it starts from, and the constant 0.001 that it passes through.

The loss is that of the last 40 steps, on shifted images. Batches of 16 make the gradient so noisy that a constant rate of
0.01 reaches a plateau. Losses are compared by their ratio. The grid was fixed after one look at it with seeds 100 and 101,
which the study does not use: the loss fell from 0.7 to 1.0 at 0.0001 to 0.11 to 0.17 at 0.01, and was at chance at 0.1.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import contrast
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model="lenet5",
    data=partial(images, dataset="digits", batch_size=16, image_size=20, augment="shift"),
    optimizer=partial(momentum, lr=0.01, schedule="constant"),
    duration=Duration(800, "steps"),
)

study = StudySpec(
    question="Is there a best learning rate inside a grid of a thousandfold, and does decay in steps beat the constant rates?",
    claim="C14",
    vary=("lr:0.01,0.0001,0.0003,0.001,0.003,0.03,0.1", "schedule:constant,step"),
    design="one_factor_at_a_time",
    seeds=8,
    metric="train/loss",
    verdict=every(
        contrast("C14", "lr=0.0001", "worse", "A rate of 0.0001 is too low", scale="log"),
        contrast("C14", "lr=0.1", "worse", "A rate of 0.1 is too high", scale="log"),
        contrast("C14", "schedule=step", "better", "Decay in steps beats the constant rate that it starts from", scale="log"),
        contrast(
            "C14",
            "schedule=step",
            "better",
            "Decay in steps beats a constant rate of a tenth",
            against="lr=0.001",
            scale="log",
        ),
        shown=(
            contrast("C14", "lr=0.001", "worse", "A constant rate of 0.001 trains worse than 0.01", scale="log"),
            contrast("C14", "lr=0.03", "worse", "A rate of 0.03 trains worse than 0.01", scale="log"),
        ),
        scope="LeNet-5 on digits, 800 steps of 16 images",
    ),
    card=Card(
        published="Bengio (2012) calls the learning rate the hyper-parameter to tune first, with 0.01 as the usual default; "
        "He et al. (2016) divide theirs by 10 where the error reaches a plateau. Neither measures the gain.",
        would_change="An end of the grid with no higher a loss than 0.01, or a constant rate as good as the decay from it.",
        deviations="The grid, the network and the data are ours. The steps of the decay are fixed and wait for no plateau.",
        quick="--seeds=1",
        figure=Figure(log_y=True),
    ),
)
