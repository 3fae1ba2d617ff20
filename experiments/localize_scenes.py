"""Classification with localisation on scenes: one handwritten digit on a cluttered canvas, its class and the box around it.

Paper:    K. Simonyan, A. Zisserman, Very deep convolutional networks for large-scale image recognition, 2015, arXiv 1409.1556,
          appendix A; a small encoder with group normalisation in place of VGG-16
Command:  python launch.py --experiment=localize_scenes
Result:   test localisation error 23.3 %, accuracy 80.7 %, mean IoU 0.722, one seed; 2,025 steps, 2 min 9 s on 2 CPU cores.

Scenes of 32x32 with one digit and pieces of others. The localisation error is the share of images whose class is wrong or
whose box overlaps the true one by an IoU below 0.5. The hidden layer has to see every digit at every place: from 4,000 scenes
in place of 12,000 it learned little (accuracy 23 % after 675 steps), and with --lr=0.02 and --box_weight=10 its units died.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.scenes import scenes
from cnnlab.models.localizer import MapLocalizer
from cnnlab.ops.optimizers import muon
from cnnlab.recipes.localization import localization
from cnnlab.values import Duration

experiment = partial(
    localization,
    model=partial(MapLocalizer, levels=3),
    data=partial(
        images,
        dataset=partial(scenes, size=32, examples=12000, sides=(0.4, 0.7), most_objects=1, clutter=2),
        batch_size=64,
    ),
    box_weight=3.0,
    optimizer=partial(muon, lr=0.01, schedule="cosine"),
    duration=Duration(12, "epochs"),
)
