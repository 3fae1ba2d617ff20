"""Claim C32: ensembles beat their members, by more the more members they have. Perceptrons on scikit-learn's digits.

Paper:    Lakshminarayanan, Pritzel, Blundell, Simple and scalable predictive uncertainty estimation using deep ensembles, 2017,
          arXiv 1612.01474, Figure 2
Command:  python launch.py ablate --experiment=c32_ensembles
Result:   supported in part: not shown for two networks. The gain is the ensemble's test accuracy minus the mean of its
          members', paired by seed, n = 10, 95 % t-interval, p after Holm: two networks +0.26 points [−0.04, 0.57] (p = 0.079),
          five +0.42 [0.19, 0.66] (p = 0.008), ten +0.52 [0.22, 0.81] (p = 0.008). The accuracies of ensembles of one, two, five
          and ten are 97.0, 97.4, 97.8 and 97.9 %, their losses 0.096, 0.083, 0.069 and 0.066. Two members differ on 1.8 % of
          the test images. A run takes 3 s (one network) to 8 s (ten) on 2 CPU cores while many other programs ran.

The gain is compared with 0, the gain of the baseline, an ensemble of one. This is the second test, on its own seeds. The first
test compared the accuracy of ensembles with that of single networks, over seeds 0 to 9. It was undecided for two networks
(+0.11 points [−0.20, 0.43]) and five (+0.31 [−0.03, 0.64]), and supported for ten (+0.33 [0.09, 0.58], p = 0.039 after Holm).
The test was changed because the accuracy of a single network depends mostly on chance, which the mean of the members averages
out. About 30 seeds would decide the gain of two networks. One of the 359 test images is 0.28 points.

Members take the same batches and differ only in their initial weights; in the paper also in the order of the data. A step has
one turn for each member, so compilation takes longer with more members: keep the networks small, or train them separately.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import contrast
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
    first_seed=10,
    metric="test/gain",
    verdict=every(
        contrast("C32", "members=2", "better", "Two networks beat their members"),
        contrast("C32", "members=5", "better", "Five networks beat their members"),
        contrast("C32", "members=10", "better", "Ten networks beat their members"),
        scope="an MLP on 359 test images of digits, 20 epochs",
    ),
)
