"""A texture from its Gram matrices: a new picture with the statistics of a given one.

Paper:    L. Gatys, A. Ecker, M. Bethge, Texture synthesis using convolutional neural networks, 2015, arXiv 1505.07376
Command:  python launch.py --experiment=texture --init_from=WEIGHTS --style=BRICK.png
Result:   brick at 128 px, 150 steps, without jitter and total variation: style loss 0.0118, from 0.69 as the mean of the
          first 7 steps; rows of bricks with their joints. 67 ms a step on a loaded machine. The defaults are not measured yet.
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
    jitter=2,
    total_variation=0.05,
    duration=Duration(500, "steps"),
)
