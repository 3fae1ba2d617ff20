"""Otsu's threshold and a watershed on the nuclei of cells: the baseline without training that Mask R-CNN has to beat.

Paper:    N. Otsu, A threshold selection method from gray-level histograms, 1979; L. Vincent, P. Soille, Watersheds in digital
          spaces: An efficient algorithm based on immersion simulations, 1991
Data:     as mask_rcnn_nuclei
Command:  python launch.py --experiment=watershed_nuclei --dataset=nuclei:PATH --dataset.instances
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.normalize import no_normalization
from cnnlab.data.resize import canvas
from cnnlab.recipes.detection import detection
from cnnlab.values import Duration

experiment = partial(
    detection,
    model="otsu_watershed",
    data=partial(
        images,
        dataset="nuclei:stage1_train",
        image_fit=canvas,
        batch_size=8,
        validation=0.0,
        normalize=no_normalization,
    ),
    duration=Duration(0, "steps"),
)
