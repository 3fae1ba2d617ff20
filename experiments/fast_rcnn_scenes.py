"""Fast R-CNN on scenes: handwritten digits on cluttered canvases, in boxes that selective search proposes. No download.

Paper:    R. Girshick, Fast R-CNN, 2015, arXiv 1504.08083; a small encoder with group normalisation in place of VGG-16
Command:  python launch.py --experiment=fast_rcnn_scenes
Result:   test AP50 0.906, AP 0.674, one seed; 338 steps, 200 s of CPU time with the proposals.

Half as many scenes as in ssd_scenes, seen twice. Regions are grouped once, in one colour space from one scale.
"""

from functools import partial

from cnnlab.data.proposals import selective_search
from cnnlab.models.fast_rcnn import FastRCNN
from cnnlab.values import Duration
from experiments import ssd_scenes

experiment = partial(
    ssd_scenes.experiment,
    model=partial(FastRCNN, pool="align"),
    data=partial(ssd_scenes.DATA, dataset=partial(ssd_scenes.SCENES, examples=3000)),
    proposals=partial(selective_search, most=64, spaces=("lab",), scales=(50.0,)),
    duration=Duration(2, "epochs"),
)
