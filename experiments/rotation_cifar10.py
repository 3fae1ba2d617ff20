"""RotNet on CIFAR-10 without its labels: a small convnet tells by how many quarter turns an image was turned.

Paper:    S. Gidaris, P. Singh, N. Komodakis, Unsupervised representation learning by predicting image rotations, ICLR 2018,
          arXiv 1803.07728
Data:     A. Krizhevsky, Learning multiple layers of features from tiny images, 2009
Command:  python launch.py --experiment=rotation_cifar10
Result:   not measured at this length; with --examples_per_class=200 --epochs=5
          test accuracy 0.4559 (chance 0.25), one seed; 6 min on 2 CPU cores while many other programs ran.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.values import Duration

experiment = partial(
    pretext_learning,
    pretext="rotation",
    data=partial(images, dataset="tfds:cifar10", batch_size=128, augment="flip_crop"),
    optimizer=partial(momentum, lr=0.1, weight_decay=5e-4),
    duration=Duration(10, "epochs"),
)
