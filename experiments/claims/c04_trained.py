"""Claim C4: too small or too large random weights; here: what a deep network learns from them. An MLP of 20 layers, MNIST.

Paper:    X. Glorot, Y. Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010; K. He et al.,
          Delving deep into rectifiers, 2015, arXiv 1502.01852, section 2.2
Command:  python launch.py ablate --experiment=c04_trained
Result:   supported at small scale; docs/claims/c04.md has the numbers.

How activations and gradients scale with depth is exact (c04_initial_scale); that a network does not learn from weights of the
wrong scale is another statement. MLPs of 20 hidden layers of 100 units learn MNIST for 500 steps. With a standard deviation of
0.01 a layer of ReLU has 0.07 times the scale of the one before, with 1 seven times, with He's 0.14 the same. Xavier's
rule is meant for units that are linear around 0, and is tested with tanh; with ReLU, where every layer halves the mean
square, it is only shown. A run whose loss is no number counts as worse than any other.

Whoever answers with the shares of the classes alone has a loss of ln 10 = 2.303, up to 0.002 on MNIST.
"""

import math
from functools import partial

import jax

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, identity
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.study import BASELINE, Card, Figure, StudySpec
from cnnlab.core import Experiment
from cnnlab.data.images import PIPELINES, images
from cnnlab.models.mlp import MLP
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Choice, Duration, Positive

WEIGHTS = {
    "he": init.he,
    "xavier": init.xavier,
    "small": partial(init.normal, std=0.01),
    "large": partial(init.normal, std=1.0),
}
"""Initialisers by name; the last two have a fixed standard deviation."""


def experiment(
    *,
    weights: Choice[WEIGHTS] = "he",
    activation: Choice[ACTIVATIONS] = jax.nn.relu,
    widths: tuple[int, ...] = (100,) * 20,
    data: Choice[PIPELINES] = partial(images, dataset="tfds:mnist", batch_size=64, validation=0.0),
    lr: Positive = 0.01,
    duration: Duration = Duration(500, "steps"),
) -> Experiment:
    """A deep MLP from random weights of a scale.

    Args:
        weights: initialiser of the kernels; biases start at 0.
        activation: activation after each hidden layer.
        widths: units of the hidden layers.
        data: images with labels, and how they become batches.
        lr: learning rate of momentum at the start of a cosine schedule.
        duration: length of training; --steps, --epochs and --examples_seen set it.
    """
    network = partial(MLP, widths=widths, activation=activation, initializer=weights)
    return classification(model=network, data=data, loss=cross_entropy, optimizer=partial(momentum, lr=lr), duration=duration)


SMALL, LARGE, XAVIER, TANH = "weights=small", "weights=large", "weights=xavier", "weights=xavier, activation=tanh"
SMALLEST = 0.1
"""Smallest effect of interest, as a share: what guessing gets right."""

study = StudySpec(
    question="Does a network of 20 hidden layers learn from weights that are too small, too large, or of He's scale?",
    claim="C4",
    vary=("weights:he,small,large,xavier,xavier", "activation:relu,relu,relu,relu,tanh"),
    design="zip",
    seeds=8,
    metric="test/accuracy",
    smallest_effect=SMALLEST,
    verdict=every(
        on(
            "test/loss",
            identity("C4", SMALL, math.log(10), 0.02, "From σ = 0.01 the network stays at the loss of guessing for 500 steps"),
        ),
        contrast("C4", SMALL, "worse", "From σ = 0.01 it learns less than from He's scale", smallest=SMALLEST),
        contrast("C4", LARGE, "worse", "From σ = 1 it learns less than from He's scale", smallest=SMALLEST),
        contrast(
            "C4",
            TANH,
            "better",
            "With tanh units and Xavier's rule it learns more than from σ = 0.01",
            against=SMALL,
            smallest=SMALLEST,
        ),
        shown=(contrast("C4", XAVIER, "worse", "With ReLU it learns less by Xavier's rule than by He's"),),
        requires=(at_least("C4", BASELINE, 0.5, "By He's rule the network learns in 500 steps"),),
        scope="MLPs of 20 hidden layers of 100 units on MNIST, 500 steps of momentum at one rate",
    ),
    card=Card(
        published=(
            "He et al. (2015), figure 3: a network of 30 layers of ReLU learns by their rule and not at all by Xavier's. No "
            "number in this setting."
        ),
        would_change="A loss below that of guessing from σ = 0.01, or as many right answers from σ = 1 as by He's rule.",
        quick="--seeds=2",
        figure=Figure(),
        deviations="Dense layers for convolutions, one rate for all, and 500 steps: other weights may learn later.",
    ),
)
