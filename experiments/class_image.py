"""A picture of a class as a classifier sees it: gradient ascent on its logit.

Paper:    K. Simonyan, A. Vedaldi, A. Zisserman, Deep inside convolutional networks, 2013, arXiv 1312.6034; Fourier basis and
          jitter: C. Olah, A. Mordvintsev, L. Schubert, Feature visualization, Distill 2017
Command:  python launch.py --experiment=class_image --init_from=WEIGHTS --labels=282,951
          or, for a channel of a layer,          --objective=activation --layer=stage4 --channels=3,7 --copies=2
Result:   logits of 48 at 128 px after 120 steps, in one octave with a blur of 0.5: parts of a cat and of a pizza.
          The defaults, two octaves at 224 px, are not measured yet.
"""

from functools import partial

from cnnlab.data.photos import blank
from cnnlab.data.pictures import pictures
from cnnlab.recipes.synthesis import picture_synthesis
from cnnlab.values import Duration

experiment = partial(
    picture_synthesis,
    objective="class_score",
    data=partial(pictures, dataset=partial(blank, labels=(282, 951, 963, 980))),
    octaves=2,
    octave_scale=2.0,
    jitter=16,
    blur=1.0,
    total_variation=30.0,
    duration=Duration(300, "steps"),
)
