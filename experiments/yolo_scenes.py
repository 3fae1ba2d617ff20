"""YOLO without anchors on scenes: handwritten digits on cluttered canvases, a box around each. Nothing is downloaded.

Paper:    Z. Ge et al., YOLOX: Exceeding YOLO series in 2021, arXiv 2107.08430; one map, a small encoder, group normalisation
Command:  python launch.py --experiment=yolo_scenes
Result:   test AP50 0.895, AP 0.627, one seed; 4,050 steps, 28 min beside five other jobs on 2 CPU cores.

Scenes of 48x48 with up to three digits. Boxes are found; most errors take a digit for another, 1, 8 and 9 above all.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.scenes import scenes
from cnnlab.models.yolo_grid import YOLOGrid
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.detection import detection
from cnnlab.values import Duration

experiment = partial(
    detection,
    model=partial(YOLOGrid, channels=48),
    data=partial(images, dataset=partial(scenes, size=48, examples=6000, most_objects=3, clutter=2), batch_size=16),
    optimizer=partial(adam, lr=0.003, schedule="cosine"),
    duration=Duration(12, "epochs"),
)
