"""Claim C32: ensembles of n networks beat their members, the more the more there are. Perceptrons on scikit-learn's digits.

Paper:    Lakshminarayanan, Pritzel, Blundell, Simple and scalable predictive uncertainty estimation using deep ensembles, 2017,
          arXiv 1612.01474, Figure 2
Command:  python launch.py ablate --experiment=c32_ensembles --seed=10
Result:   undecided here, for two networks. Test accuracy of the ensemble less the mean of its members', paired by seed, n = 10,
          95 % t-interval, p after Holm: two +0.26 points [−0.04, 0.57] (p = 0.079), five +0.42 [0.19, 0.66] (p = 0.008), ten
          +0.52 [0.22, 0.81] (p = 0.008). The ensembles' accuracy is 97.0, 97.4, 97.8 and 97.9 %, their loss 0.096, 0.083, 0.069
          and 0.066 (one, two, five, ten); two members differ on 1.8 % of the test images. 3 s a run of one network to 8 s of
          ten on 2 CPU cores beside much other work.

A gain is compared with 0, which is what the baseline, an ensemble of one, has. This is the second test, on seeds of its own.
The first one compared the accuracy of ensembles with that of single networks, over seeds 0 to 9: undecided for two (+0.11
points [−0.20, 0.43]) and five (+0.31 [−0.03, 0.64]), supported for ten (+0.33 [0.09, 0.58], p = 0.039 after Holm). What a
single network reaches is mostly luck, which the mean of the members averages away; hence the change. About 30 seeds would
decide the gain of two. One image of the 359 of the test split is 0.28 points.

Members see the same batches and differ by their initial weights alone, in the paper by the order of the data too. A step holds
a turn for every member, so that compiling it takes longer the more there are: keep networks small, or train them apart.
"""

from functools import partial

from cnnlab.ablation.analyse.verdicts import contrast, every
from cnnlab.ablation.plan.study import StudySpec
from cnnlab.data.images import images
from cnnlab.recipes.classification import ensemble_classification
from cnnlab.values import Duration

experiment = partial(
    ensemble_classification,
    members=1,
    model="mlp",
    data=partial(images, dataset="digits"),
    duration=Duration(20, "epochs"),
)

study = StudySpec(
    question="Do 2, 5 and 10 networks whose probabilities are averaged classify better than they do alone?",
    claim="C32",
    vary=("members:1,2,5,10",),
    seeds=10,
    metric="test/gain",
    verdict=every(
        contrast("C32", "members=2", "better", "Two networks beat their members"),
        contrast("C32", "members=5", "better", "Five networks beat their members"),
        contrast("C32", "members=10", "better", "Ten networks beat their members"),
    ),
)
