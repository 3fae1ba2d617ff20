"""Faster R-CNN on scenes: handwritten digits on cluttered canvases, a box around each, in two stages. Nothing is downloaded.

Paper:    S. Ren, K. He, R. Girshick, J. Sun, Faster R-CNN: Towards real-time object detection with region proposal networks,
          2015, arXiv 1506.01497; a small encoder with group normalisation and a feature pyramid in place of VGG-16
Command:  python launch.py --experiment=faster_rcnn_scenes
Result:   test AP50 0.892, AP 0.645, one seed; 338 steps, 177 s of CPU time.

The scenes of ssd_scenes, seen once.
"""

from functools import partial

from cnnlab.models.faster_rcnn import FasterRCNN
from cnnlab.values import Duration
from experiments import ssd_scenes

experiment = partial(ssd_scenes.experiment, model=FasterRCNN, duration=Duration(1, "epochs"))
