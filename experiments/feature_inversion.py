"""A picture from the activations of a layer alone: what the layer keeps of a photo.

Paper:    A. Mahendran, A. Vedaldi, Understanding deep image representations by inverting them, 2015, arXiv 1412.0035
Command:  python launch.py --experiment=feature_inversion --init_from=WEIGHTS --dataset=photos:PHOTO.jpg --layers=stage3
Result:   the cat at 128 px from stage3, 120 steps: relative distance 0.067, from 0.84; the face is there down to single hairs,
          with colours that are off. 224 px and 300 steps, the defaults, are not measured yet.
"""

from functools import partial

from cnnlab.data.pictures import pictures
from cnnlab.recipes.synthesis import picture_synthesis
from cnnlab.tasks.objectives import inversion
from cnnlab.values import Duration

experiment = partial(
    picture_synthesis,
    objective=partial(inversion, layers=("stage3",)),
    data=partial(pictures, dataset="sample_photos", image_size=224),
    octaves=2,
    octave_scale=2.0,
    total_variation=0.5,
    duration=Duration(300, "steps"),
)
