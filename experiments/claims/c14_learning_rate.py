"""Claim C14: a learning rate can be too low or too high, and a step decay at a plateau helps. LeNet-5 on digits.

Paper:    Bengio, Practical recommendations for gradient-based training of deep architectures, 2012, arXiv 1206.5533
Command:  python launch.py ablate --experiment=c14_learning_rate
Result:   supported here. Training loss at the end, differences to a constant rate of 0.01 (0.122 ± 0.049), paired by seed,
          n = 5, 95 % t-interval: rate 0.0001 +0.749 [0.558, 0.940]; rate 0.2 +2.21 [2.16, 2.27] (at chance, no run diverged);
          step decay −0.057 [−0.112, −0.003] (p = 0.043 after Holm). 7 to 15 s a run on 2 CPU cores while many other
          programs ran.

The rates were fixed before the runs: the best of c13_momentum_adam, one 100 times lower, and one 20 times higher, at which the
network did not learn in that search either, on other seeds. The schedule `step` divides the rate by 10 after half and after
three quarters of the 1000 steps. The loss is that of the last 50 steps on shifted images. Batches of 16 make the gradient so
noisy that a constant rate reaches a plateau: from half of training on its loss varies around 0.12. It still falls a little, so
the plateau is not flat. The third part is the weakest: with five seeds the sign-flip test cannot go below p = 0.06.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import contrast
from cnnlab.ablation.plan.study import StudySpec
from cnnlab.data.images import images
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model="lenet5",
    data=partial(images, dataset="digits", batch_size=16, image_size=20, augment="shift"),
    optimizer=partial(momentum, lr=0.01, schedule="constant"),
    duration=Duration(1000, "steps"),
)

study = StudySpec(
    question="Does a learning rate 100 times lower or 20 times higher train worse, and does a step decay at the plateau help?",
    claim="C14",
    vary=("lr:0.01,0.0001,0.2", "schedule:constant,step"),
    design="one_factor_at_a_time",
    metric="train/loss",
    verdict=every(
        contrast("C14", "lr=0.0001", "worse", "A rate of 0.0001 is too low"),
        contrast("C14", "lr=0.2", "worse", "A rate of 0.2 is too high"),
        contrast("C14", "schedule=step", "better", "Decay in steps helps"),
        scope="LeNet-5 on digits, 1000 steps",
    ),
)
