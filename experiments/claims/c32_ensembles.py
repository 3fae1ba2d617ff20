"""Claim C32: an ensemble classifies better than its members do alone, by more the more members it has. Fashion-MNIST.

Paper:    Lakshminarayanan, Pritzel, Blundell, Simple and scalable predictive uncertainty estimation using deep ensembles, 2017,
          arXiv 1612.01474, Figure 2
Command:  python launch.py ablate --experiment=c32_ensembles
Result:   supported at small scale; docs/claims/c32.md has the numbers.

The endpoint is the gain: the accuracy of the ensemble on the 10,000 test images minus the mean accuracy of its members. It is
compared with that of an ensemble of one, which is exactly 0. The accuracy of one network instead of the mean of the members
would add the luck of that network to every difference. An earlier study on the 359 test images of scikit-learn's digits could
not decide the gain of two networks (+0.26 points [−0.04, 0.57], ten seeds): one test image was 0.28 points there.

That the ensemble's loss is at most the mean loss of its members needs no test: it follows from Jensen's inequality, for every
image. c32_jensen checks it.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import ensemble_classification
from cnnlab.values import Duration

SMALLEST = 0.002
"""Smallest gain of interest, as a share: a fifth of a point, about a seventh of the gain that ten networks had on digits and
MNIST in the sources, and 20 of the 10,000 test images."""

experiment = partial(
    ensemble_classification,
    members=1,
    model="lenet5",
    data=partial(
        images,
        dataset="tfds:fashion_mnist",
        image_size=20,
        examples_per_class=1000,
        examples_seed="run",
        validation=0.0,
        batch_size=64,
    ),
    optimizer=partial(momentum, lr=0.05),
    duration=Duration(6, "epochs"),
)

study = StudySpec(
    question="Do 2, 5 and 10 networks whose probabilities are averaged classify better than they do alone?",
    claim="C32",
    vary=("members:1,2,5,10",),
    seeds=8,
    metric="test/gain",
    smallest_effect=SMALLEST,
    verdict=every(
        contrast("C32", "members=2", "better", "Two networks beat their members", smallest=SMALLEST),
        contrast("C32", "members=5", "better", "Five networks beat their members", smallest=SMALLEST),
        contrast("C32", "members=10", "better", "Ten networks beat their members", smallest=SMALLEST),
        contrast("C32", "members=10", "better", "Ten gain more than two", against="members=2", smallest=SMALLEST),
        shown=(
            contrast("C32", "members=5", "better", "Five gain more than two", against="members=2"),
            contrast("C32", "members=10", "better", "Ten gain more than five", against="members=5"),
            on("test/accuracy", contrast("C32", "members=10", "better", "Ten classify better than the first of them alone")),
        ),
        scope="LeNet-5 on 10,000 images of Fashion-MNIST at 20x20, 6 epochs",
    ),
    card=Card(
        published="On MNIST, Figure 2 of Lakshminarayanan et al. 2017 shows the error of an MLP fall with the number of "
        "networks, most of it over the first five; the figure prints no numbers.",
        would_change="A gain that is below a fifth of a point, or that does not grow from two to ten networks.",
        deviations="The members take the same batches and differ by their initial weights alone; in the paper also by the "
        "order of the data. LeNet-5 on images reduced to 20x20, 1,000 of each class; in the paper an MLP on all of MNIST.",
        quick="--seeds=1 --epochs=1",
        figure=Figure(x="members", y="accuracy gained (points)"),
    ),
)
