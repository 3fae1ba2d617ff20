"""Claim C23, second part: pre-training helps sigmoid layers more the deeper they are and the fewer labels there are.

Paper:    D. Erhan, Y. Bengio, A. Courville, P.-A. Manzagol, P. Vincent, S. Bengio, Why does unsupervised pre-training help deep
          learning?, 2010, JMLR 11, Figures 1 and 8
Command:  python launch.py ablate --experiment=c23_depth_labels
Result:   supported at small scale; docs/claims/c23.md has the numbers.

One and three sigmoid layers learn the digits of MNIST from 100, 1000 or 10,000 labels, drawn anew for every seed, with and
without pre-training (c23_pretraining has the setting). An older version of this study stopped four layers at 67 ± 13 %, which
is unfinished training; here every arm must have classified 98 % of its labelled images rightly in the last 50 steps, or the
claim is not tested. Accuracies are compared by their log odds.

The rates of three layers are those of c23_pretraining; with 1000 labels 0.003 was the best of 0.001, 0.003 and 0.01 by
validation accuracy (seed 100). One layer has 0.003, the best in a search of an older version of this study with seeds 100 and
101, and 0.01 where 2000 steps are few passes over 10,000 labels.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import interaction
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from experiments.claims.c23_pretraining import are_trained, named
from experiments.claims.c23_pretraining import experiment as on_few_labels

experiment = partial(on_few_labels, widths=(256,))

ONE, THREE = "256", "256,256,256"
VARY = (
    f"widths:{','.join([f'({ONE},)'] * 6 + [f'({THREE})'] * 6)}",
    "pretrained:false,false,false,true,true,true,false,false,false,true,true,true",
    "examples_per_class:10,100,1000,10,100,1000,10,100,1000,10,100,1000",
    "units.lr:0.003,0.003,0.01,0.003,0.003,0.003,0.001,0.003,0.003,0.003,0.003,0.003",
    "units.pretrained_lr:0.003,0.003,0.003,0.003,0.003,0.01,0.003,0.003,0.003,0.003,0.003,0.003",
)
"""The arms, each with its own rate: `units.lr` from a random start, `units.pretrained_lr` after pre-training."""


def gain(widths: str, labels: str) -> tuple[str, str]:
    """Returns the names of the arms with and without pre-training, for so many labels of each class."""
    with_it, without = (named(VARY, widths=widths, pretrained=start, examples_per_class=labels) for start in ("true", "false"))
    return with_it, without


study = StudySpec(
    question="Is pre-training sigmoid layers worth more, the deeper they are and the fewer labels of MNIST there are?",
    claim="C23",
    vary=VARY,
    design="zip",
    seeds=6,
    metric="test/accuracy",
    allow=("steps", "data"),
    verdict=every(
        interaction(
            "C23",
            gain(THREE, "10"),
            gain(ONE, "10"),
            "better",
            "With 100 labels pre-training helps three layers more than one",
            scale="logit",
        ),
        interaction(
            "C23",
            gain(THREE, "10"),
            gain(THREE, "100"),
            "better",
            "Pre-training helps three layers more with 100 labels than with 1000",
            scale="logit",
        ),
        interaction(
            "C23",
            gain(THREE, "100"),
            gain(THREE, "1000"),
            "better",
            "Pre-training helps three layers more with 1000 labels than with 10,000",
            scale="logit",
        ),
        shown=(
            interaction(
                "C23",
                gain(ONE, "10"),
                gain(ONE, "1000"),
                "better",
                "Pre-training helps one layer more with 100 labels than with 10,000",
                scale="logit",
            ),
        ),
        requires=are_trained(VARY),
        scope="MNIST with labels drawn anew for every seed, layers of 256, 2000 steps",
    ),
    card=Card(
        published="On all labels of MNIST, the test errors of networks without pre-training spread more with every layer, and "
        "five layers do not train at all; with pre-training they do (Figure 1).",
        would_change="A gain of one layer as large as that of three, or one that does not fall with the number of labels.",
        deviations="One and three layers of 256 units, and an epoch of pre-training for each layer.",
        quick="--seeds=1",
        figure=Figure(),
    ),
)
