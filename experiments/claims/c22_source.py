"""Claim C22, first half: LeNet-5 learns the tops and dresses of Fashion-MNIST (classes 0 to 4), for transfer by c22_transfer.

Data:     H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, 2017, arXiv 1708.07747
Command:  python launch.py --experiment=c22_source --workdir=runs/c22_source
Result:   test accuracy 0.9132 on classes 0 to 4, 0.8374 with --only_classes=0,2,4,6,8; one seed, 5 epochs.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model="lenet5",
    data=partial(images, dataset="tfds:fashion_mnist", only_classes=(0, 1, 2, 3, 4)),
    optimizer=partial(adam, lr=0.001),
    duration=Duration(5, "epochs"),
)
