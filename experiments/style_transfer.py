"""Style transfer: the content of a photo with the Gram matrices of a painting.

Paper:    L. Gatys, A. Ecker, M. Bethge, Image style transfer using convolutional neural networks, CVPR 2016
Command:  python launch.py --experiment=style_transfer --init_from=WEIGHTS --dataset=photos:PHOTO.jpg --style=PAINTING.jpg
Result:   256 px, EfficientNet-Lite0: Tübingen in the style of The Starry Night: style loss 0.017, from 0.42, the mean in
          the first 15 steps. Its swirls stand in the sky, its strokes on everything, and the houses are there. 87 CPU seconds;
          3 min 46 s of wall time on 2 cores that other work shared.
"""

from functools import partial

from cnnlab.data.pictures import pictures
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.synthesis import picture_synthesis
from cnnlab.values import Duration

experiment = partial(
    picture_synthesis,
    objective="style_transfer",
    data=partial(pictures, dataset="sample_photos", image_size=256),
    start="picture",
    octaves=2,
    octave_scale=2.0,
    optimizer=partial(adam, lr=0.05, schedule="cosine"),
    duration=Duration(300, "steps"),
)
