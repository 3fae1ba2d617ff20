"""Blood cells: red and white ones and platelets, each in a box, found as points. Needs the data set bccd of TFDS.

Paper:    X. Zhou, D. Wang, P. Krähenbühl, Objects as points, 2019, arXiv 1904.07850; a small encoder and a feature pyramid
Command:  python launch.py --experiment=bccd --data_dir=DIR
Result:   test AP50 0.848 ± 0.010 over 3 seeds (white cells 0.977 ± 0.012, red ones 0.781 ± 0.015, platelets 0.788 ± 0.025),
          AP 0.481 ± 0.006; 6 CPU minutes a seed.

Images of 156x208 pixels, a third of their size. Two boxes without an area are left out, which is said.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.resize import canvas
from cnnlab.models.centre import Centre
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.detection import detection
from cnnlab.values import Duration

experiment = partial(
    detection,
    model=Centre,
    data=partial(images, dataset="tfds:bccd", image_fit=partial(canvas, scale=0.325), augment="flip", batch_size=8),
    optimizer=partial(adam, lr=0.003, schedule="cosine"),
    duration=Duration(30, "epochs"),
)
