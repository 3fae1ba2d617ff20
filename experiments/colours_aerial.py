"""Logistic regression of a pixel's class on its colour, for aerial tiles: the baseline without a neighbourhood.

Data:     as unet_aerial
Command:  python launch.py --experiment=colours_aerial --dataset=masks:PATH --dataset.test_groups=tile6
Result:   test mIoU 23.0 %, one seed, at two learning rates alike.
"""

from functools import partial

from cnnlab.models.full_resolution import FullResolution
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.segmentation import segmentation
from cnnlab.values import Duration
from experiments.unet_aerial import aerial

experiment = partial(
    segmentation,
    model=partial(FullResolution, depth=0),
    data=aerial,
    optimizer=partial(adam, lr=0.1, schedule="cosine"),
    duration=Duration(100, "epochs"),
)
