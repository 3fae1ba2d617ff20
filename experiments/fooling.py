"""A picture that a classifier is sure of and a person sees nothing in: ascent on the probability of a class, from noise.

Paper:    A. Nguyen, J. Yosinski, J. Clune, Deep neural networks are easily fooled, 2015, arXiv 1412.1897 (section 3.4)
Command:  python launch.py --experiment=fooling --init_from=WEIGHTS --labels=282,951
Result:   two pictures of noise at 128 px: confidence 0.996 in both classes on average, after 60 steps; nothing is seen in them.
"""

from functools import partial

from cnnlab.data.photos import blank
from cnnlab.data.pictures import pictures
from cnnlab.models.canvas import Pixels
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.synthesis import picture_synthesis
from cnnlab.tasks.objectives import class_score
from cnnlab.values import Duration

experiment = partial(
    picture_synthesis,
    objective=partial(class_score, by="probability"),
    data=partial(pictures, dataset=partial(blank, labels=(282, 951))),
    basis=partial(Pixels, noise=1.0, decorrelate=False),
    optimizer=partial(adam, lr=0.01, schedule="constant"),
    duration=Duration(60, "steps"),
)
