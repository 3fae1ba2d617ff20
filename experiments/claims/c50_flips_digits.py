"""Claim C50, first half: mirrored training images harm digits. LeNet-5 on 1,000 images of MNIST, tested on 10,000.

Paper:    Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional neural networks, 2012, section 4.1,
          mirror photos; that this does not preserve the labels of digits say Shorten, Khoshgoftaar, A survey on image data
          augmentation for deep learning, 2019
Command:  python launch.py ablate --experiment=c50_flips_digits
Result:   supported at small scale; docs/claims/c50.md has the numbers.

Every seed draws 100 training images of each class anew. With `augment=flip` half of the images of a batch are mirrored left
to right: test images are not, and a mirrored 2 looks like some 5, so that the network spends capacity on forms that it never
meets and that resemble other classes. A shift of up to 2 pixels is the control, a variation after which a digit still is one:
it has to help, or this network does not over-fit and no variation could show anything. All else is equal, the number of steps
included.
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
        images, dataset="tfds:mnist", batch_size=64, validation=0.0, examples_per_class=100, examples_seed="run", augment=()
    ),
    optimizer=partial(momentum, lr=0.02),
    duration=Duration(600, "steps"),
)

study = StudySpec(
    question="Do training images that are mirrored at random harm a classifier of digits?",
    claim="C50",
    vary=("augment:none,flip,shift",),
    seeds=8,
    metric="test/accuracy",
    smallest_effect=0.005,
    verdict=every(
        contrast("C50", "augment=flip", "worse", "Mirrored training images harm digits", against="baseline", smallest=0.005),
        requires=(contrast("C50", "augment=shift", "better", "Shifted ones help (the control)", against="baseline"),),
        scope="LeNet-5, 1,000 training images of MNIST drawn by the seed, 600 steps, 10,000 test images",
    ),
    card=Card(
        published="Shorten and Khoshgoftaar (2019) say that mirroring does not preserve the labels of MNIST, without a number.",
        would_change="Mirrored images that cost less than half a point of accuracy, or help, where shifted ones help.",
        quick="--seeds=2",
        figure=Figure(),
        deviations="A sixtieth of the training images, so that the network over-fits. The smallest effect of interest is half "
        "a point, 50 of the 10,000 test images.",
    ),
)
