"""Claim C15: random search finds better hyperparameters than a grid of as many trials. Five knobs of a perceptron on digits.

Paper:    Bergstra, Bengio, Random search for hyper-parameter optimization, JMLR 13, 2012, Figures 1 and 5
Command:  python launch.py ablate --experiment=c15_random_search
Result:   not shown; docs/claims/c15.md has the numbers.

Five knobs have the ranges that one would try first: learning rate, momentum, weight decay, dropout, and the standard
deviation of the initial weights. No range was chosen so that its knob should or should not matter. Which do is found by the
study: the report estimates the share of the variance that involves each of them (permutation importance of a random forest).

A grid of 32 trials has two levels of each knob. Since one grid can be lucky, there are eight, each with random offsets of its
own (cnnlab/ablation/plan/designs.py), against eight random searches of 32 trials. In both the best trial is the one with the
smallest validation loss, on 288 images, and its test loss is compared, so that neither gains from luck in the selection. One
search is one observation: the test is about searches of this size over these ranges. Losses are compared by their ratio, and
not accuracies, which change in steps of one image in 359.

Deviations: the paper's grids have more trials (hundreds) and more knobs, and more levels of those that were expected to
matter; ours has two of each. All runs have the same seed, hence the same split and order of the data. One compilation serves
all runs.
"""

from functools import partial

from cnnlab.ablation.analyse.search_verdict import BetweenSearches
from cnnlab.ablation.plan.designs import GRID, TRIAL
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.models.mlp import MLP
from cnnlab.ops.init import normal
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model=partial(MLP, initializer=partial(normal, std=0.1)),
    data=partial(images, dataset="digits", validation=0.2),
    duration=Duration(100, "steps"),
)

study = StudySpec(
    question="Does a random search of 32 trials over five knobs find a smaller test loss than a grid of 32?",
    claim="C15",
    vary=(
        "lr:log(1e-4,1)",
        "optimizer.momentum:uniform(0,0.99)",
        "weight_decay:log(1e-6,1e-2)",
        "model.dropout:uniform(0,0.6)",
        "model.initializer.std:log(0.01,1)",
    ),
    design="grids_and_random",
    seeds=1,
    metric="test/loss",
    verdict=BetweenSearches("C15", TRIAL, GRID, "validation/loss", "Random search beats a grid of as many trials"),
    card=Card(
        published="On variants of MNIST, random searches of 8 trials over seven hyper-parameters match or beat grids of about "
        "100 (Figure 5).",
        would_change="Grids that find a smaller test loss than as many random trials, over ranges that one would try first.",
        scope="an MLP on digits of 8x8, 100 steps a trial, five knobs over the ranges that one would try first",
        deviations="Five knobs in place of seven to 32, grids of two levels, digits of 8x8, and 100 steps a trial.",
        figure=Figure(x="lr", log_x=True, log_y=True),
    ),
)
