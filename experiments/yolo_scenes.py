"""YOLO without anchors on scenes: handwritten digits on cluttered canvases, a box around each. Nothing is downloaded.

Paper:    Z. Ge et al., YOLOX: Exceeding YOLO series in 2021, arXiv 2107.08430; one map, a small encoder, group normalisation
Command:  python launch.py --experiment=yolo_scenes
Result:   test AP50 0.775, AP 0.508, one seed; 6 min beside other work on 2 CPU cores.

The scenes are those of ssd_scenes.
"""

from functools import partial

from cnnlab.models.yolo_grid import YOLOGrid
from experiments import ssd_scenes

experiment = partial(ssd_scenes.experiment, model=YOLOGrid)
