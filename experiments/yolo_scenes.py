"""YOLO without anchors on scenes: handwritten digits on cluttered canvases, a box around each. Nothing is downloaded.

Paper:    Z. Ge et al., YOLOX: Exceeding YOLO series in 2021, arXiv 2107.08430; one map, a small encoder, group normalisation
Command:  python launch.py --experiment=yolo_scenes
Result:   test AP50 0.950, AP 0.713, one seed; 2,250 steps, 1 min 52 s on 2 CPU cores.

The scenes of ssd_scenes. With Muon at 0.02, as there, nothing was learned. On scenes with more clutter, in which digits hide
parts of each other, AP50 was 0.895 after 4,050 steps, and most errors took a digit for another.
"""

from functools import partial

from cnnlab.models.yolo_grid import YOLOGrid
from cnnlab.ops.optimizers import adam
from cnnlab.values import Duration
from experiments import ssd_scenes

experiment = partial(
    ssd_scenes.experiment,
    model=partial(YOLOGrid, channels=48),
    optimizer=partial(adam, lr=0.003, schedule="cosine"),
    duration=Duration(6, "epochs"),
)
