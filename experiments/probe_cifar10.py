"""What features are worth on CIFAR-10: a linear probe of a small network; random weights without --init_from.

Data:     A. Krizhevsky, Learning multiple layers of features from tiny images, 2009
Command:  python launch.py --experiment=probe_cifar10 --init_from=RUN
Result:   not measured.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.probe import linear_probe

experiment = partial(
    linear_probe,
    data=partial(images, dataset="tfds:cifar10", batch_size=1000, validation=0.0),
    layers=("features",),
    examples_per_class=100,
    examples_seed="run",
)
