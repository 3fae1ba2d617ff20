"""Style transfer: the content of a photo with the Gram matrices of a painting.

Paper:    L. Gatys, A. Ecker, M. Bethge, Image style transfer using convolutional neural networks, CVPR 2016
Command:  python launch.py --experiment=style_transfer --init_from=WEIGHTS --dataset=photos:PHOTO.jpg --style=PAINTING.jpg
Result:   Tübingen in the style of The Starry Night at 160 px, 100 steps: style loss 0.053; its swirls stand in the sky, and the
          houses are there. 256 px and 300 steps, the defaults, are not measured yet.
"""

from functools import partial

from cnnlab.data.pictures import pictures
from cnnlab.recipes.synthesis import picture_synthesis
from cnnlab.values import Duration

experiment = partial(
    picture_synthesis,
    objective="style_transfer",
    data=partial(pictures, dataset="sample_photos", image_size=256),
    start="picture",
    octaves=2,
    octave_scale=2.0,
    jitter=2,
    duration=Duration(300, "steps"),
)
