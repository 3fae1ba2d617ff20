"""SSD on scenes: handwritten digits on cluttered canvases, a box around each. Nothing is downloaded.

Paper:    W. Liu et al., SSD: Single shot multibox detector, 2016, arXiv 1512.02325; a small encoder with group normalisation
Command:  python launch.py --experiment=ssd_scenes
Result:   test AP50 0.759, AP 0.460, one seed; 6 min beside other work on 2 CPU cores.

Scenes of 48x48 with up to three digits. Boxes are found; most errors take a digit, or a piece of one, for another.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.scenes import scenes
from cnnlab.models.ssd import SSD
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.detection import detection
from cnnlab.values import Duration

experiment = partial(
    detection,
    model=SSD,
    data=partial(images, dataset=partial(scenes, size=48, examples=4000, most_objects=3, clutter=3), batch_size=16),
    optimizer=partial(adam, lr=0.003, schedule="cosine"),
    duration=Duration(5, "epochs"),
)
