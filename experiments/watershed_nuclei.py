"""Otsu's threshold and a watershed on the nuclei of cells: the baseline without training that Mask R-CNN has to beat.

Paper:    N. Otsu, A threshold selection method from gray-level histograms, 1979; L. Vincent, P. Soille, Watersheds in digital
          spaces: An efficient algorithm based on immersion simulations, 1991
Data:     as mask_rcnn_nuclei
Command:  python launch.py --experiment=watershed_nuclei --dataset=nuclei:PATH --dataset.instances
Result:   mask AP50 0.711, AP 0.357 on the 40 test images; AP50 0.759 of fluorescence, 0.361 of histology (three images); of
          nuclei that touch another one AP50 0.384, recall 0.591; 26 s of CPU time, and no training.

The knobs of the watershed were chosen on 60 of the training images.
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
