"""A texture from its Gram matrices: a new picture with the statistics of a given one.

Paper:    L. Gatys, A. Ecker, M. Bethge, Texture synthesis using convolutional neural networks, 2015, arXiv 1505.07376
Command:  python launch.py --experiment=texture --init_from=WEIGHTS --style=BRICK.png
Result:   not measured yet.
"""

from functools import partial

from cnnlab.data.photos import blank
from cnnlab.data.pictures import pictures
from cnnlab.recipes.synthesis import picture_synthesis
from cnnlab.values import Duration

experiment = partial(
    picture_synthesis,
    objective="texture",
    data=partial(pictures, dataset=partial(blank, size=256)),
    octaves=2,
    octave_scale=2.0,
    duration=Duration(500, "steps"),
)
