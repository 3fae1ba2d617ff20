"""Inpainting on CIFAR-10 without its labels: the middle of an image from what is around it.

Paper:    D. Pathak, P. Krähenbühl, J. Donahue, T. Darrell, A. Efros, Context encoders: feature learning by inpainting,
          CVPR 2016, arXiv 1604.07379
Data:     A. Krizhevsky, Learning multiple layers of features from tiny images, 2009
Command:  python launch.py --experiment=inpainting_cifar10
Result:   not measured at this length; with --examples_per_class=200 --epochs=5
          test error 0.542 (0.936 with a flat hole), one seed; 5 min on 2 CPU cores while many other programs ran.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.values import Duration

experiment = partial(
    pretext_learning,
    pretext="inpainting",
    data=partial(images, dataset="tfds:cifar10", batch_size=128, augment="flip_crop"),
    duration=Duration(10, "epochs"),
)
