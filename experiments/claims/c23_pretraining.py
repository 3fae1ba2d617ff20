"""Claim C23: unsupervised pre-training helps saturating units with few labels, and does not help well-initialised ReLU.

Paper:    D. Erhan, Y. Bengio, A. Courville, P.-A. Manzagol, P. Vincent, S. Bengio, Why does unsupervised pre-training help deep
          learning?, 2010, JMLR 11
Command:  python launch.py ablate --experiment=c23_pretraining
Result:   not shown; the last of its three parts, which is only shown, is the opposite: pre-training still helps ReLU. Test
          accuracy in %, n = 5 seeds: sigmoid
          79.3 ± 15.2, pre-trained 91.13 ± 0.10; ReLU 90.43 ± 0.19, pre-trained 91.71 ± 0.14. Gains of pre-training, paired by
          seed, 95 % t-interval: sigmoid +11.9 points [−6.9, 30.6] (p = 0.42 after Holm), undecided; sigmoid minus ReLU +10.6
          [−8.3, 29.4] (p = 0.19), undecided; ReLU +1.28 [1.12, 1.45] (p < 0.001 against a margin of half a point), refuted.
          7 to 27 s a run from a random start, 35 to 104 s a pre-trained one, on 2 CPU cores while many other programs ran.

Pre-training also helps the sigmoid layers in all five seeds, by 9, 4, 39, 5 and 3 points. The interval is wide because one
seed stayed at 52 % from its random start. Pre-trained layers of both kinds are better than ReLU from a random start. Half a
point is 1.7 binomial standard errors of the test split. Each learning rate is the best of two to six by validation accuracy on
seed 100 alone. For sigmoid layers from a random start the candidates were 0.001, 0.002, 0.003, 0.005, 0.01 and 0.03. There
0.005 was better than 0.002 and 0.003 by one point, but it is not reliable on other seeds. Each layer is pre-trained for two
epochs. The labelled examples are the same for every seed, so the intervals hold for these examples only.
"""

from functools import partial
from typing import Any

import jax

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import bounded, contrast, interaction
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
    """Returns sigmoid units, which saturate, with LeCun's initialisation.

    Args:
        lr: learning rate of fine-tuning from a random start.
        pretrained_lr: learning rate of fine-tuning after pre-training.
    """
    return jax.nn.sigmoid, lecun, lr, pretrained_lr


def relu(*, lr: Positive = 0.01, pretrained_lr: Positive = 0.001) -> Units:
    """Returns rectified units, which do not saturate, with He's initialisation.

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
        units: sigmoid or relu, each with an initialisation and learning rates that suit it.
        pretrained: whether each layer is first trained as a denoising autoencoder (a quarter of the pixels masked).
        pretrain: length of the pre-training of each layer.
        widths: number of units of each layer, starting from the image.
        data: images, and how they become batches; their pixels lie in [0, 1].
        examples_per_class: number of labelled examples of each class; none: all.
        duration: length of fine-tuning; an epoch is one pass over the labelled examples; --steps, --epochs and
            --examples_seen set it.
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
        # The lectures say that its importance decreases, not that it ends.
        shown=(
            bounded(
                "C23",
                "units=relu, pretrained=true",
                "not better",
                0.005,
                "Pre-training stops mattering with ReLU",
                against="units=relu",
            ),
        ),
        scope="MNIST with 1000 labels, three layers of 256",
    ),
)
