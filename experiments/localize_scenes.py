"""Classification with localisation on scenes: one handwritten digit on a cluttered canvas, its class and the box around it.

Paper:    K. Simonyan, A. Zisserman, Very deep convolutional networks for large-scale image recognition, 2015, arXiv 1409.1556,
          appendix A; a small encoder with group normalisation in place of VGG-16
Command:  python launch.py --experiment=localize_scenes
Result:   not run yet.

Scenes of 48x48 with one digit and pieces of others. The localisation error is the share of images whose class is wrong or whose
box overlaps the true one by an IoU below 0.5.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.scenes import scenes
from cnnlab.models.localizer import MapLocalizer
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.localization import localization
from cnnlab.values import Duration

experiment = partial(
    localization,
    model=MapLocalizer,
    data=partial(images, dataset=partial(scenes, size=48, examples=4000, most_objects=1, clutter=3), batch_size=32),
    box_weight=10.0,
    optimizer=partial(adam, lr=0.002, schedule="cosine"),
    duration=Duration(12, "epochs"),
)
