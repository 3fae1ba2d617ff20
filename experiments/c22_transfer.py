"""Claim C22: transfer helps when labels are few. LeNet-5 learns classes 5 to 9 of Fashion-MNIST from a few examples each.

Paper:    Yosinski, Clune, Bengio, Lipson, How transferable are features in deep neural networks?, 2014, arXiv 1411.1792
Command:  python launch.py --experiment=c22_transfer --seeds=5   (from scratch; with the weights of c22_source:)
          python launch.py --experiment=c22_transfer --seeds=5 --init_from=runs/c22_source --new_head [--frozen=features]
Result:   pending.
"""

from functools import partial

from cnnlab.ops.optimizers import adam
from cnnlab.values import Duration
from experiments.recipes import classification

experiment = partial(
    classification,
    model="lenet5",
    dataset="tfds:fashion_mnist",
    only_classes=(5, 6, 7, 8, 9),
    examples_per_class=10,
    validation=0.0,
    optimizer=partial(adam, lr=0.001),
    batch_size=25,
    duration=Duration(400, "steps"),
)
