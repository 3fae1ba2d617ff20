"""Counting on CIFAR-10 without its labels: what is counted in the quarters of an image adds up to that in the whole.

Paper:    M. Noroozi, H. Pirsiavash, P. Favaro, Representation learning by learning to count, ICCV 2017, arXiv 1708.06734
Data:     A. Krizhevsky, Learning multiple layers of features from tiny images, 2009
Command:  python launch.py --experiment=counting_cifar10
Result:   not measured at this length; with --examples_per_class=200 --epochs=5
          test matched 0.8297 (chance 0.5), one seed; 2 min on 2 CPU cores while many other programs ran.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.values import Duration

experiment = partial(
    pretext_learning,
    pretext="counting",
    data=partial(images, dataset="tfds:cifar10", batch_size=128, augment="flip_crop"),
    duration=Duration(10, "epochs"),
)
