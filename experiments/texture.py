"""A texture from its Gram matrices: a new picture with the statistics of a given one.

Paper:    L. Gatys, A. Ecker, M. Bethge, Texture synthesis using convolutional neural networks, 2015, arXiv 1505.07376
Command:  python launch.py --experiment=texture --init_from=WEIGHTS --style=BRICK.png
Result:   256 px, seed 0, EfficientNet-Lite0: style loss of brick 0.895 at the start and 0.00169 at the end (529 times less), of
          grass 1131 times less, of gravel 2056 times less. All three are seen as what they are; bricks have their joints, but
          some are crooked. 91 to 117 CPU seconds, 2 to 4 minutes of wall time on 2 cores that other work shared.
"""

from functools import partial

from cnnlab.data.photos import blank
from cnnlab.data.pictures import pictures
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.synthesis import picture_synthesis
from cnnlab.values import Duration

experiment = partial(
    picture_synthesis,
    objective="texture",
    data=partial(pictures, dataset=partial(blank, size=256)),
    octaves=3,
    octave_scale=2.0,
    total_variation=0.02,
    optimizer=partial(adam, lr=0.05, schedule="cosine"),
    duration=Duration(1200, "steps"),
)
