"""Claim C23: unsupervised pre-training helps saturating units with few labels, and matters less with ReLU and with more labels.

Paper:    D. Erhan, Y. Bengio, A. Courville, P.-A. Manzagol, P. Vincent, S. Bengio, Why does unsupervised pre-training help deep
          learning?, 2010, JMLR 11
Command:  python launch.py ablate --experiment=c23_pretraining
Result:   supported at small scale; docs/claims/c23.md has the numbers.

Three layers of sigmoid units, or of ReLU from He's initialisation, learn the digits of MNIST from 100 or 10,000 labels: from
a random start, or after each layer was trained as a denoising autoencoder on all 54,000 images, for an epoch. The labels are
drawn anew for every seed. Accuracies on the 10,000 test images are compared by their log odds, in which a gain near 80 % and
one near 97 % are comparable. The lectures say that the importance of pre-training decreases, not that it ends: what it does
for ReLU is only shown.

A network that is not trained to its end says nothing about labels, so every arm must have classified 98 % of its labelled
images rightly in the last 50 steps; else the claim is not tested. All arms have 2000 steps of fine-tuning; those of
pre-training come on top, and they see no label.

Rates were tried with seed 100, which the study does not use, for 1500 steps. From a random start with 100 labels, sigmoid
layers fitted their images at 0.001 and not at 0.003 or 0.01 (58 and 78 %); with 10,000 they had the best test accuracy at
0.003 (95.2 %; 93.0 at 0.001, 94.0 at 0.01). Pre-trained with 100 labels they had 77.6 % at 0.003 and 76.8 % at 0.01. ReLU
from a random start had 96.1 % at 0.001 and 96.9 % at 0.003 with 10,000 labels, and 76.3 % at 0.001 with 100. The pre-trained
arms that are not named here have 0.003 (sigmoid) and 0.001 (ReLU) without a trial; both are close to their optimum in an
older version of this study. The study trains for 2000 steps, so that slower seeds end too.
"""

from functools import partial
from typing import Any

import jax

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.analyse.verdicts import contrast, interaction, on
from cnnlab.ablation.plan.designs import zip_levels
from cnnlab.ablation.plan.levels import parse_vary
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.core import Experiment
from cnnlab.data.images import images
from cnnlab.ops.init import he, lecun
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.autoencoder import UnlabelledImages, stacked_autoencoders
from cnnlab.values import Choice, Count, DrawSeed, Duration, Positive

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
    pretrain: Duration = Duration(1, "epochs"),
    widths: tuple[int, ...] = (256, 256, 256),
    data: UnlabelledImages = partial(images, dataset="tfds:mnist", batch_size=128),
    examples_per_class: Count | None = 10,
    examples_seed: DrawSeed = "run",
    duration: Duration = Duration(2000, "steps"),
) -> Experiment:
    """Layers that learn the classes from few labels, from a random start or after pre-training on all images.

    Args:
        units: sigmoid or relu, each with an initialisation and learning rates that suit it.
        pretrained: whether each layer is first trained as a denoising autoencoder (a quarter of the pixels masked).
        pretrain: length of the pre-training of each layer.
        widths: number of units of each layer, starting from the image.
        data: images, and how they become batches; their pixels lie in [0, 1].
        examples_per_class: number of labelled examples of each class; none: all.
        examples_seed: seed by which these are drawn: a number, or run, by the seed of each run; none: always the same ones.
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
        examples_seed=examples_seed,
        duration=duration,
    )


VARY = (
    "units:sigmoid,sigmoid,sigmoid,sigmoid,relu,relu,relu,relu",
    "pretrained:false,false,true,true,false,false,true,true",
    "examples_per_class:10,1000,10,1000,10,1000,10,1000",
    "units.lr:0.001,0.003,0.001,0.001,0.001,0.003,0.001,0.001",
    "units.pretrained_lr:0.003,0.003,0.003,0.003,0.003,0.003,0.001,0.001",
)
"""The arms, each with its own rate: `units.lr` from a random start, `units.pretrained_lr` after pre-training."""


def named(vary: tuple[str, ...], **knobs: str) -> str:
    """Returns the name of the arm that has these levels in the design zip."""
    return next(arm.name for arm in zip_levels(parse_vary(vary)) if knobs.items() <= arm.knobs.items())


def gain(units: str, labels: str) -> tuple[str, str]:
    """Returns the names of the arms with and without pre-training, for so many labels of each class."""
    with_it, without = (named(VARY, units=units, pretrained=start, examples_per_class=labels) for start in ("true", "false"))
    return with_it, without


def are_trained(vary: tuple[str, ...]) -> tuple[Rule, ...]:
    """Returns the checks that the networks of all arms fit their labelled images."""
    names = [arm.name for arm in zip_levels(parse_vary(vary))]
    return tuple(on("train/accuracy", at_least("C23", name, 0.98, f"{name} is trained to its end")) for name in names)


study = StudySpec(
    question="With 100 and with 10,000 labels of MNIST, does pre-training on all images help sigmoid layers, and ReLU less?",
    claim="C23",
    vary=VARY,
    design="zip",
    seeds=8,
    metric="test/accuracy",
    allow=("steps", "data"),
    verdict=every(
        contrast(
            "C23",
            gain("sigmoid", "10")[0],
            "better",
            "With 100 labels pre-training helps three sigmoid layers",
            against=gain("sigmoid", "10")[1],
            scale="logit",
        ),
        interaction(
            "C23",
            gain("sigmoid", "10"),
            gain("relu", "10"),
            "better",
            "With 100 labels pre-training helps sigmoid units more than ReLU",
            scale="logit",
        ),
        interaction(
            "C23",
            gain("sigmoid", "10"),
            gain("sigmoid", "1000"),
            "better",
            "Pre-training helps sigmoid units more with 100 labels than with 10,000",
            scale="logit",
        ),
        shown=[
            contrast(
                "C23",
                gain("relu", labels)[0],
                "better",
                f"With {number} labels pre-training helps ReLU",
                against=gain("relu", labels)[1],
                scale="logit",
            )
            for labels, number in (("10", "100"), ("1000", "10,000"))
        ],
        requires=are_trained(VARY),
        scope="MNIST with labels drawn anew for every seed, three layers of 256, 2000 steps",
    ),
    card=Card(
        published="On all labels of MNIST, networks with pre-training have a lower test error at every depth, and one that "
        "varies less over random starts (Figure 1).",
        would_change="A gain for ReLU as large as that for sigmoid units, or one that does not fall with the number of labels.",
        deviations="100 and 10,000 labels, layers of 256 units, an epoch of pre-training a layer, and ReLU beside sigmoid.",
        quick="--seeds=1",
        figure=Figure(),
    ),
)
