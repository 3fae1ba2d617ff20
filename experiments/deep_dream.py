"""DeepDream: a photo in which a network sees more of what it sees, over octaves from coarse to fine.

Paper:    A. Mordvintsev, C. Olah, M. Tyka, Inceptionism: going deeper into neural networks, Google AI blog 2015
Command:  python launch.py --experiment=deep_dream --init_from=WEIGHTS --dataset=photos:PHOTO.jpg
Result:   256 px, seed 0, EfficientNet-Lite0, a cat: mean square of the activations 1.60, from 1.13 as the mean of the first 8
          steps. Heads of animals with eyes, snouts and fur fill the picture, and the cat's eyes and nose are among them. 87 CPU
          seconds; 2 min 42 s of wall time on 2 cores that other work shared.
"""

from functools import partial

from cnnlab.data.pictures import pictures
from cnnlab.models.canvas import Pixels
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.synthesis import picture_synthesis
from cnnlab.tasks.objectives import dream
from cnnlab.values import Duration

experiment = partial(
    picture_synthesis,
    objective=partial(dream, layers=("stage5_block2/expand", "stage6_block1/expand")),
    data=partial(pictures, dataset="sample_photos", image_size=256),
    start="picture",
    basis=partial(Pixels, noise=0.0),
    octaves=4,
    octave_scale=1.4,
    jitter=16,
    optimizer=partial(adam, lr=0.06, schedule="constant"),
    duration=Duration(160, "steps"),
)
