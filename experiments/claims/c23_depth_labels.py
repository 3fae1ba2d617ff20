"""Claim C23, second part: pre-training helps sigmoid layers more the deeper they are and the fewer labels there are.

Paper:    D. Erhan, Y. Bengio, A. Courville, P.-A. Manzagol, P. Vincent, S. Bengio, Why does unsupervised pre-training help deep
          learning?, 2010, JMLR 11, Figures 1 and 8
Command:  python launch.py ablate --experiment=c23_depth_labels
Result:   not tested, since training had not ended; its three parts are supported. The gain is the test accuracy with
          pre-training minus that without, in points,
          n = 5 paired seeds. By depth, with 1000 labels: one layer +0.86, two +2.50, four +24.4; four layers minus one +23.6
          [8.2, 38.9] (95 % t-interval, p = 0.013). With 100, 1000 and 10,000 labels: one layer +2.58, +0.86, +1.79, first
          minus last +0.79 [0.13, 1.45] (p = 0.029); four layers +37.7, +24.4, +12.2, first minus last +25.5 [2.2, 48.8]
          (p = 0.038). The three p are not corrected for multiple tests. 3 to 9 s a run from a random start, 10 to 35 s a
          pre-trained one, two at once on 2 CPU cores.

With 1000 labels, four layers from a random start reach 67 ± 13 %, and the seeds differ widely; one layer reaches 89.7 %. With
pre-training, the accuracies of all depths lie within 0.6 points of one another. The gain of one layer does not fall steadily
with the number of labels (+2.58, +0.86, +1.79).

Every arm has 800 steps of fine-tuning. Each learning rate is the best of 0.0003, 0.001, 0.003 and 0.01 by the validation
accuracy with 1000 labels, averaged over the three depths, on seeds 100 and 101, which the study does not use (random start:
88.4, 86.7, 75.2 % with one, two, four layers; pre-trained: 89.2, 89.9, 90.0 %).
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every, unmet
from cnnlab.ablation.analyse.verdicts import interaction
from cnnlab.ablation.plan.study import StudySpec
from cnnlab.values import Duration
from experiments.claims.c23_pretraining import experiment as on_few_labels
from experiments.claims.c23_pretraining import sigmoid

experiment = partial(
    on_few_labels, units=partial(sigmoid, lr=0.003, pretrained_lr=0.01), widths=(256,), duration=Duration(800, "steps")
)

DEEP = "widths=(256,256,256,256)"

study = StudySpec(
    question="Is pre-training sigmoid layers worth more, the deeper they are and the fewer labels there are?",
    claim="C23",
    vary=("widths:(256,),(256,256),(256,256,256,256)", "pretrained:false,true", "examples_per_class:100,10,1000"),
    seeds=5,
    metric="test/accuracy",
    allow=("steps", "data"),
    verdict=every(
        interaction(
            "C23",
            (f"{DEEP}, pretrained=true", DEEP),
            ("pretrained=true", "baseline"),
            "better",
            "With 1000 labels pre-training helps four layers more than one",
        ),
        interaction(
            "C23",
            ("pretrained=true, examples_per_class=10", "examples_per_class=10"),
            ("pretrained=true, examples_per_class=1000", "examples_per_class=1000"),
            "better",
            "Pre-training helps one layer more with 100 labels than with 10,000",
        ),
        interaction(
            "C23",
            (f"{DEEP}, pretrained=true, examples_per_class=10", f"{DEEP}, examples_per_class=10"),
            (f"{DEEP}, pretrained=true, examples_per_class=1000", f"{DEEP}, examples_per_class=1000"),
            "better",
            "Pre-training helps four layers more with 100 labels than with 10,000",
        ),
        requires=(
            unmet(
                "C23",
                "Each network is trained to its end at a rate tuned for its depth, which this study does not check: four "
                "layers without pre-training are at 67 ± 13 % after 800 steps",
            ),
        ),
        scope="MNIST, 800 steps at one rate for all depths",
    ),
)
