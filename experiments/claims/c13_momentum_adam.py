"""Claim C13: SGD with momentum, tuned, ends at least as well as Adam. LeNet-5 on the digits of scikit-learn.

Paper:    Wilson, Roelofs, Stern, Srebro, Recht, The marginal value of adaptive gradient methods, 2017, arXiv 1705.08292
Command:  python launch.py ablate --experiment=c13_momentum_adam
Result:   not shown here. Test accuracy after 600 steps 97.01 ± 0.70 % with momentum, 97.44 ± 0.63 % with Adam; Adam − momentum
          +0.43 points [−0.00, 0.86] (95 %, n = 15 paired seeds; p = 0.72 against the margin of half a point, 0.052 against
          no difference). 14 s a run on 2 CPU cores while many other programs ran.

Each arm is an optimiser with its own learning rate: the best of six or seven by validation accuracy, then by validation loss,
over seeds 100 to 103, which the study does not use. Momentum has 0.01 (of 0.002, 0.005, 0.01, 0.02, 0.05, 0.1 and 0.2), Adam
0.005 (of 0.0005, 0.001, 0.002, 0.005, 0.01 and 0.02). The search: --optimizer=adam --vary=lr:0.005,0.01,… --seed=100 --seeds=4
--metric=validation/accuracy --eval_every="300 steps". All else is the same: cosine schedule, batches of 64, no weight decay.
"At least as well" is a test of non-inferiority. Its margin of half a point is two of the 359 test images, less than the
standard deviation over seeds. The difference favours Adam, against the claim. The network is small and the data are easy.
"""

from functools import partial

from cnnlab.ablation.analyse.verdicts import bounded
from cnnlab.ablation.plan.study import StudySpec
from cnnlab.data.images import images
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model="lenet5",
    data=partial(images, dataset="digits", image_size=20),
    optimizer=partial(momentum, lr=0.01),
    duration=Duration(600, "steps"),
)

study = StudySpec(
    question="Does tuned SGD with momentum end at least as well as Adam, up to half a point of test accuracy?",
    claim="C13",
    vary=("optimizer:momentum,adam", "lr:0.01,0.005"),
    design="zip",
    seeds=15,
    metric="test/accuracy",
    verdict=bounded("C13", "optimizer=adam, lr=0.005", "not better", 0.005, "Adam ends no better than SGD with momentum"),
)
