"""Claim C22: transfer helps when labels are few. LeNet-5 learns classes 5 to 9 of Fashion-MNIST from a few examples each.

Paper:    Yosinski, Clune, Bengio, Lipson, How transferable are features in deep neural networks?, 2014, arXiv 1411.1792
Command:  python launch.py --experiment=c22_transfer --seeds=5   (from scratch)
          python launch.py --experiment=c22_transfer --seeds=5 --init_from=runs/c22_source --new_head [--frozen=features]
Result:   not shown with few labels; no verdict is declared. Test accuracy in % over 5 seeds; below it differences to training
          from scratch, in points, paired by
          seed, with 95 % t-intervals:

  labels a class       1                5                10              50              200             1000
  scratch          59.7 ± 8.9       78.5 ± 3.8       82.6 ± 2.0      90.6 ± 0.3      93.0 ± 0.3      94.0 ± 0.3
  fine-tuned     −5.1 [−18, 8.0]  +3.0 [−2.5, 8.4] +2.2 [−0.4, 4.8] +0.7 [0.0, 1.4] +0.7 [0.3, 1.2] +0.8 [0.5, 1.2]
  frozen        −20.7 [−36, −5]  −19.1 [−29, −9] −19.3 [−26, −12] −26.3 [−34, −19] −28.6 [−36, −22] −29.9 [−37, −23]

With few labels, weights from the other half of the classes do not help LeNet-5; with many, fine-tuning gains a little. Frozen
features are worse at every number of labels, even when the head learns at a rate of 0.03 (73.1 at 10 labels, 88.6 at 200).
Halves that mix kinds of clothes (source classes 0, 2, 4, 6, 8, target 1, 3, 5, 7, 9) give the same result: fine-tuned −3.5
[−6.4, −0.7] at 5 labels, +0.7 [−0.1, 1.4] at 200. The labelled examples are the same for every seed, so the intervals hold for
these examples only.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model="lenet5",
    data=partial(
        images,
        dataset="tfds:fashion_mnist",
        batch_size=25,
        validation=0.0,
        only_classes=(5, 6, 7, 8, 9),
        examples_per_class=10,
    ),
    optimizer=partial(adam, lr=0.001),
    duration=Duration(400, "steps"),
)
