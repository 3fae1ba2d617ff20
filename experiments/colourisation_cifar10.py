"""Colourisation of CIFAR-10 without its labels: the colours of an image from its lightness.

Paper:    R. Zhang, P. Isola, A. Efros, Colorful image colorization, ECCV 2016, arXiv 1603.08511
Data:     A. Krizhevsky, Learning multiple layers of features from tiny images, 2009
Command:  python launch.py --experiment=colourisation_cifar10
Result:   not measured at this length; with --examples_per_class=200 --epochs=5
          test loss 3.515 (5.565 at first), one seed; 2 min on 2 CPU cores while many other programs ran.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.values import Duration

experiment = partial(
    pretext_learning,
    pretext="colourisation",
    data=partial(images, dataset="tfds:cifar10", batch_size=128, augment="flip_crop"),
    duration=Duration(10, "epochs"),
)
