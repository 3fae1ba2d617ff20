"""What features of a small network are worth on scikit-learn's digits: a linear probe; random weights without --init_from.

Command:  python launch.py --experiment=probe_digits --init_from=RUN
Result:   test accuracy 0.719 of random weights and 0.866 of those of simclr_digits, 0.649 and 0.819 by neighbours (seed 0).
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.probe import linear_probe

experiment = partial(
    linear_probe, data=partial(images, dataset="digits", batch_size=128), examples_per_class=10, examples_seed="run"
)
