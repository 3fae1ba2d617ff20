"""A small modern convnet with batch normalisation on Fashion-MNIST, with flips.

Data:     H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, 2017, arXiv 1708.07747
Command:  python launch.py --experiment=convnet_fashion --seeds=2
Result:   test accuracy 0.9288 ± 0.0014 over 2 seeds; 12 to 15 min a seed on 2 CPU cores while other programs ran.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model="convnet",
    data=partial(images, dataset="tfds:fashion_mnist", batch_size=128, augment="flip"),
    optimizer=partial(momentum, lr=0.1, weight_decay=5e-4),
    duration=Duration(10, "epochs"),
)
