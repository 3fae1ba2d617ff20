"""R-CNN on scenes: handwritten digits on cluttered canvases, each proposed box cut out and classified. Nothing is downloaded.

Paper:    R. Girshick, J. Donahue, T. Darrell, J. Malik, Rich feature hierarchies for accurate object detection and semantic
          segmentation, 2014, arXiv 1311.2524; a small encoder with group normalisation, from scratch, in place of AlexNet
Command:  python launch.py --experiment=rcnn_scenes
Result:   test AP50 0.946, AP 0.690, one seed; 338 steps, 7 min of CPU time with the proposals.

The scenes and proposals of fast_rcnn_scenes.
"""

from functools import partial

from cnnlab.models.rcnn import RCNN
from experiments import fast_rcnn_scenes

experiment = partial(fast_rcnn_scenes.experiment, model=RCNN)
