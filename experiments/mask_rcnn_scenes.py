"""Mask R-CNN on scenes: handwritten digits on cluttered canvases, the pixels of each one. Nothing is downloaded.

Paper:    K. He, G. Gkioxari, P. Dollár, R. Girshick, Mask R-CNN, 2017, arXiv 1703.06870; a small encoder with group
          normalisation and a feature pyramid in place of ResNet
Command:  python launch.py --experiment=mask_rcnn_scenes
Result:   test mask AP50 0.905, mask AP 0.571, box AP50 0.905, box AP 0.658, one seed; 338 steps, 12 min 53 s on 2 CPU cores at
          a load of 8, of which 2 min 43 s for the compilation.

The scenes of ssd_scenes, seen once, with a mask of each digit.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.scenes import scenes
from cnnlab.models.mask_rcnn import MaskRCNN
from cnnlab.values import Duration
from experiments import ssd_scenes

experiment = partial(
    ssd_scenes.experiment,
    model=partial(MaskRCNN, mask_bins=7, mask_depth=2),
    data=partial(
        images,
        dataset=partial(
            scenes, size=48, examples=6000, sides=(0.3, 0.45), most_objects=3, visible=1.0, clutter=2, instances=True
        ),
        batch_size=16,
    ),
    most_detections=20,
    duration=Duration(1, "epochs"),
)
