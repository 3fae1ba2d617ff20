"""Claim C23: unsupervised pre-training helps with few labels and saturating units, and stops mattering with ReLU, well begun.

Paper:    D. Erhan, Y. Bengio, A. Courville, P.-A. Manzagol, P. Vincent, S. Bengio, Why does unsupervised pre-training help deep
          learning?, 2010, JMLR 11
Command:  python launch.py ablate --experiment=c23_pretraining
Result:   refuted here, in the last of its three parts: pre-training still helps ReLU. Test accuracy in %, n = 5 seeds: sigmoid
          79.3 ± 15.2, pre-trained 91.13 ± 0.10; ReLU 90.43 ± 0.19, pre-trained 91.71 ± 0.14. Differences paired by seed, 95 %
          t-interval: sigmoid +11.9 points [−6.9, 30.6] (p = 0.42 after Holm): undecided; that less the gain of ReLU +10.6
          [−8.3, 29.4] (p = 0.19): undecided; ReLU +1.28 [1.12, 1.45] (p < 0.001 against a margin of half a point): refuted.
          7 to 27 s a run from a random start, 35 to 104 s a pre-trained one, on 2 CPU cores beside much other work.

Pre-training is ahead in all five seeds of sigmoid layers too, by 9, 4, 39, 5 and 3 points: the one that stayed at 52 % from
its random start widens the interval. Layers of either kind, pre-trained, are ahead of ReLU from a random start. Half a point
is 1.7 binomial standard errors of the test split. Each rate is the best of two to six by validation accuracy on seed 100
alone. For sigmoid layers from a random start these were 0.001, 0.002, 0.003, 0.005, 0.01 and 0.03: 0.005 was ahead of 0.002
and 0.003 by one point there, and is not safe on other seeds. Two epochs of pre-training a layer.
The labelled examples are the same for every seed, so the intervals hold for them alone.
"""

from functools import partial
from typing import Any

import jax

from cnnlab import knobs
from cnnlab.ablation.analyse.verdicts import bounded, contrast, every, interaction
from cnnlab.ablation.plan.study import StudySpec
from cnnlab.core import Experiment
from cnnlab.data.images import images
from cnnlab.ops.init import he, lecun
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.autoencoder import UnlabelledImages, stacked_autoencoders
from cnnlab.values import Choice, Count, Duration, Positive

Units = tuple[Any, Any, float, float]
"""(activation, initialiser, rate of fine-tuning from a random start, rate of fine-tuning after pre-training)."""


def sigmoid(*, lr: Positive = 0.005, pretrained_lr: Positive = 0.01) -> Units:
    """Units that saturate, from LeCun's initialisation.

    Args:
        lr: learning rate of fine-tuning from a random start.
        pretrained_lr: learning rate of fine-tuning after pre-training.
    """
    return jax.nn.sigmoid, lecun, lr, pretrained_lr


def relu(*, lr: Positive = 0.01, pretrained_lr: Positive = 0.001) -> Units:
    """Units that do not saturate, from He's initialisation.

    Args:
        lr: learning rate of fine-tuning from a random start.
        pretrained_lr: learning rate of fine-tuning after pre-training.
    """
    return jax.nn.relu, he, lr, pretrained_lr


UNITS = {"sigmoid": sigmoid, "relu": relu}


def experiment(
    *,
    units: Choice[UNITS] = "sigmoid",
    pretrained: bool = False,
    pretrain: Duration = Duration(2, "epochs"),
    widths: tuple[int, ...] = (256, 256, 256),
    data: UnlabelledImages = partial(images, dataset="tfds:mnist", batch_size=128),
    examples_per_class: Count | None = 100,
    duration: Duration = Duration(100, "epochs"),
) -> Experiment:
    """Layers that learn the classes from few labels, from a random start or after pre-training on all images.

    Args:
        units: sigmoid or relu, with an initialisation and learning rates that suit them.
        pretrained: whether each layer is first trained as a denoising autoencoder (a quarter of the pixels masked).
        pretrain: length of that training of each layer.
        widths: number of units of each layer, from the image on.
        data: images, and how they become batches; their pixels lie in [0, 1].
        examples_per_class: labels of each class; none: all.
        duration: length of fine-tuning, in passes over these; --steps, --epochs and --examples_seen set it.
    """
    activation, initializer, lr, pretrained_lr = units()
    return knobs.resolve(stacked_autoencoders, {}).call(
        widths=widths,
        activation=activation,
        initializer=initializer,
        data=data,
        pretrain=pretrain if pretrained else Duration(0, "steps"),
        optimizer=partial(adam, lr=pretrained_lr if pretrained else lr),
        examples_per_class=examples_per_class,
        duration=duration,
    )


study = StudySpec(
    question="With 1000 labels of MNIST, does pre-training on all images help three sigmoid layers, and does it help ReLU?",
    claim="C23",
    vary=("units:sigmoid,relu", "pretrained:false,true"),
    seeds=5,
    metric="test/accuracy",
    allow=("steps",),
    verdict=every(
        contrast("C23", "pretrained=true", "better", "Pre-training helps three sigmoid layers"),
        interaction(
            "C23",
            ("pretrained=true", "baseline"),
            ("units=relu, pretrained=true", "units=relu"),
            "better",
            "Pre-training helps sigmoid units more than ReLU from He's initialisation",
        ),
        bounded(
            "C23",
            "units=relu, pretrained=true",
            "not better",
            0.005,
            "Pre-training stops mattering with ReLU",
            against="units=relu",
        ),
    ),
)
