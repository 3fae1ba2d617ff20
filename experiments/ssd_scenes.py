"""SSD on scenes: handwritten digits on cluttered canvases, a box around each. Nothing is downloaded.

Paper:    W. Liu et al., SSD: Single shot multibox detector, 2016, arXiv 1512.02325; a small encoder with group normalisation
Command:  python launch.py --experiment=ssd_scenes
Result:   test AP50 0.960, AP 0.722, one seed; 1,350 steps, 1 min 37 s on 2 CPU cores.

Scenes of 48x48 with up to three digits, which may touch and never cover each other. With more clutter, and digits that hide
a quarter of each other (--visible=0.75 --clutter=3), most errors take a digit, or a piece of one, for another.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.scenes import scenes
from cnnlab.models.ssd import SSD
from cnnlab.ops.optimizers import muon
from cnnlab.recipes.detection import detection
from cnnlab.values import Duration

SCENES = partial(scenes, size=48, examples=6000, sides=(0.3, 0.45), most_objects=3, visible=1.0, clutter=2)
DATA = partial(images, dataset=SCENES, batch_size=16)

experiment = partial(
    detection,
    model=SSD,
    data=DATA,
    optimizer=partial(muon, lr=0.02, schedule="cosine"),
    duration=Duration(4, "epochs"),
)
