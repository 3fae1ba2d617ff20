"""A picture from the activations of a layer alone: what the layer keeps of a photo.

Paper:    A. Mahendran, A. Vedaldi, Understanding deep image representations by inverting them, 2015, arXiv 1412.0035
Command:  python launch.py --experiment=feature_inversion --init_from=WEIGHTS --dataset=photos:PHOTO.jpg --layers=stage3
Result:   not measured yet.
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
    jitter=4,
    total_variation=1.0,
    duration=Duration(300, "steps"),
)
