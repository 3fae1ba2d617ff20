"""Claim C2: without a non-linearity a deep network is a linear classifier; here: how well it classifies once trained. MNIST.

Paper:    A. Saxe, J. McClelland, S. Ganguli, Exact solutions to the nonlinear dynamics of learning in deep linear neural
          networks, 2014, arXiv 1312.6120
Command:  python launch.py ablate --experiment=c02_trained
Result:   supported at small scale; docs/claims/c02.md has the numbers.

That a network of linear layers computes one matrix is exact (c02_linear_collapse); it follows that it cannot classify better
than the best linear classifier, and not that training finds the same one, since its loss is not convex in the weights.
Softmax regression (the MLP without a hidden layer) is compared with the same MLP of two hidden layers without a non-linearity
and with ReLU, all trained with the same rate and for the same number of steps, from Xavier's initialisation. Rate and
initialiser were chosen on seeds 100 and 101: at a rate of 0.05 from He's, which doubles the variance in each linear layer, a
linear network diverged. The seed draws the initial weights and the order.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import contrast, equivalent
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.models.mlp import MLP
from cnnlab.ops.activations import identity
from cnnlab.ops.init import xavier
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model=partial(MLP, widths=(), activation=identity, initializer=xavier),
    data=partial(images, dataset="tfds:mnist", batch_size=128),
    optimizer=partial(momentum, lr=0.02),
    duration=Duration(5, "epochs"),
)

LINEAR, RELU = "widths=(256,128)", "widths=(256,128), activation=relu"

study = StudySpec(
    question="Once trained, does a deep network without a non-linearity classify as softmax regression does?",
    claim="C2",
    vary=("widths:(),(256,128),(256,128)", "activation:identity,identity,relu"),
    design="zip",
    seeds=8,
    metric="test/accuracy",
    smallest_effect=0.005,
    verdict=every(
        equivalent(
            "C2",
            LINEAR,
            0.005,
            "Two hidden layers without a non-linearity classify as softmax regression does",
            source="a tenth of what ReLU gained on seeds 100 and 101",
        ),
        contrast("C2", RELU, "better", "With ReLU the same network is better than softmax regression", test="signs"),
        contrast("C2", RELU, "better", "With ReLU it is better than without a non-linearity", against=LINEAR, test="signs"),
        scope="MLPs on MNIST, 5 epochs, one learning rate for all",
    ),
    card=Card(
        published="None in this setting; no linear network can fit better than the best matrix, since it is one.",
        would_change="A difference of half a point between softmax regression and the trained linear network.",
        quick="--seeds=1",
        figure=Figure(),
        deviations=(
            "Saxe et al. study squared errors and how such networks learn over time; here only the accuracy at the end counts."
        ),
    ),
)
