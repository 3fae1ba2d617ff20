"""A small modern convnet with batch normalisation on the digits of scikit-learn.

Command:  python launch.py --experiment=convnet_digits
Result:   test accuracy 0.9850 ± 0.0042 over 5 seeds; 13 s a seed on 2 CPU cores.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model="convnet",
    data=partial(images, dataset="digits", augment="shift"),
    duration=Duration(40, "epochs"),
)
