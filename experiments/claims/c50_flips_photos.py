"""Claim C50, second half: mirrored training images help on photos. LeNet-5 on 5,000 images of CIFAR-10, tested on 10,000.

Paper:    Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional neural networks, 2012, section 4.1
Command:  python launch.py ablate --experiment=c50_flips_photos
Result:   supported at small scale; docs/claims/c50.md has the numbers.

Every seed draws 500 training images of each class anew. With `augment=flip` half of the images of a batch are mirrored left
to right, which makes another photo of the same class. All else is equal, the number of steps included. c50_flips_digits has
the other half of the claim.
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
    data=partial(
        images, dataset="tfds:cifar10", batch_size=64, validation=0.0, examples_per_class=500, examples_seed="run", augment=()
    ),
    optimizer=partial(momentum, lr=0.02),
    duration=Duration(1000, "steps"),
)

study = StudySpec(
    question="Do training images that are mirrored at random help a classifier of photos?",
    claim="C50",
    vary=("augment:none,flip",),
    seeds=8,
    metric="test/accuracy",
    smallest_effect=0.01,
    verdict=every(
        contrast("C50", "augment=flip", "better", "Mirrored training images help on photos", against="baseline", smallest=0.01),
        scope="LeNet-5, 5,000 training images of CIFAR-10 drawn by the seed, 1000 steps, 10,000 test images",
    ),
    card=Card(
        published="Krizhevsky et al. (2012) mirror photos and crop them at random, without which their network over-fits; "
        "they give no number for mirroring alone. Shorten and Khoshgoftaar (2019) call it useful on CIFAR-10 and ImageNet.",
        would_change="Mirrored images that gain less than a point of accuracy, or cost some, in this network.",
        quick="--seeds=2",
        figure=Figure(),
        deviations="A small network and a tenth of the training images, of which it sees each 13 times. The smallest "
        "effect of interest is one point, 100 of the 10,000 test images.",
    ),
)
