"""A pretext task on scikit-learn's digits, then a linear probe of the trunk with 10 labels a class: one run for both.

Command:  python launch.py --experiment=pretrained_probe_digits
Result:   not measured.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.probe import pretrained_probe
from cnnlab.recipes.starts import puzzle
from cnnlab.values import Duration

experiment = partial(
    pretrained_probe,
    start=partial(puzzle, augment="shift"),
    data=partial(images, dataset="digits", batch_size=128),
    layers=("stage2", "stage3", "features"),
    duration=Duration(20, "epochs"),
    examples_per_class=10,
    examples_seed="run",
)
