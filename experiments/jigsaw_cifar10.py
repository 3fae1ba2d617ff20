"""Jigsaw puzzles of CIFAR-10 without its labels: in which of 64 orders are the nine pieces of an image.

Paper:    M. Noroozi, P. Favaro, Unsupervised learning of visual representations by solving jigsaw puzzles, ECCV 2016,
          arXiv 1603.09246
Data:     A. Krizhevsky, Learning multiple layers of features from tiny images, 2009
Command:  python launch.py --experiment=jigsaw_cifar10
Result:   not measured at this length; with --examples_per_class=200 --epochs=5
          test accuracy 0.0284 (chance 0.0156), one seed; 2 min on 2 CPU cores while many other programs ran.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.values import Duration

experiment = partial(
    pretext_learning,
    pretext="jigsaw",
    data=partial(images, dataset="tfds:cifar10", batch_size=128, augment="flip_crop"),
    duration=Duration(10, "epochs"),
)
