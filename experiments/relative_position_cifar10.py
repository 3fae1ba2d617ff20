"""Relative position on CIFAR-10 without its labels: where does one of the eight neighbours of a piece lie.

Paper:    C. Doersch, A. Gupta, A. Efros, Unsupervised visual representation learning by context prediction, ICCV 2015,
          arXiv 1505.05192
Data:     A. Krizhevsky, Learning multiple layers of features from tiny images, 2009
Command:  python launch.py --experiment=relative_position_cifar10
Result:   not measured at this length; with --examples_per_class=200 --epochs=5
          test accuracy 0.1413 (chance 0.125), one seed; 1 min on 2 CPU cores while many other programs ran.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.recipes.pretexts import relative_position
from cnnlab.values import Duration

experiment = partial(
    pretext_learning,
    pretext=partial(relative_position, colours="drop"),
    data=partial(images, dataset="tfds:cifar10", batch_size=128, augment="flip_crop"),
    duration=Duration(10, "epochs"),
)
