"""Claim C7: plain networks train worse when deeper, residual ones do not. 20 and 56 layers on the digits of scikit-learn.

Paper:    He, Zhang, Ren, Sun, Deep residual learning for image recognition, 2015, arXiv 1512.03385, Figure 6
Command:  python launch.py ablate --experiment=c07_plain_vs_residual
Result:   supported in part: the last of its three parts is not shown. Training loss after 200 steps, differences paired by
          seed,
          n = 5, 95 % t-interval. Plain networks, 56 − 20 layers: +2.10 [1.87, 2.33] (p < 0.001 after Holm), supported. The same
          minus that difference of residual networks: +1.69 [1.21, 2.18] (p < 0.001), supported. Residual networks, 56 − 20
          layers: +0.41 [−0.15, 0.97] (p = 0.15 against a margin of 0.05), not shown. 17 to 92 s a run on 2 CPU cores
          while many other programs ran.

The part "residual networks do not train worse when they are deeper" needs a margin: 0.05, set before the runs. After 200 steps
(ten epochs of 1294 images of 8x8) the loss of 20 residual layers is near 0. That of 56 layers is still falling: 0.17 to 0.26
in four seeds and 1.22 in one, which widens the interval. 56 plain layers stay near chance (2.0 to 2.3). A longer run would
show whether 56 residual layers catch up. As in the paper: learning rate 0.1, momentum 0.9, weight decay 0.0001. The rate is
constant and a batch has 64 images.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import bounded, contrast, interaction
from cnnlab.ablation.plan.study import StudySpec
from cnnlab.data.images import images
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model="cifar_plain20",
    data=partial(images, dataset="digits"),
    optimizer=partial(momentum, lr=0.1, weight_decay=0.0001, schedule="constant"),
    duration=Duration(200, "steps"),
)

PLAIN56, RESIDUAL20, RESIDUAL56 = (f"model=cifar_{name}" for name in ("plain56", "resnet20", "resnet56"))

study = StudySpec(
    question="Do 56 plain layers train worse than 20, and do residual ones not?",
    claim="C7",
    vary=("model:cifar_plain20,cifar_plain56,cifar_resnet20,cifar_resnet56",),
    metric="train/loss",
    verdict=every(
        contrast("C7", PLAIN56, "worse", "56 plain layers train worse than 20"),
        interaction(
            "C7",
            (PLAIN56, "baseline"),
            (RESIDUAL56, RESIDUAL20),
            "worse",
            "Depth costs plain networks more than residual ones",
        ),
        bounded("C7", RESIDUAL56, "not worse", 0.05, "56 residual layers train no worse than 20", against=RESIDUAL20),
        scope="digits of 8x8, 200 steps at a constant rate, after which 56 plain layers are at chance",
    ),
)
