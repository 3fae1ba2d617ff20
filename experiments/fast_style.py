"""Fast style transfer: a network that takes any photo to a picture in one style, trained by the perceptual loss.

Paper:    J. Johnson, A. Alahi, L. Fei-Fei, Perceptual losses for real-time style transfer and super-resolution, 2016, arXiv
          1603.08155; instance normalisation: D. Ulyanov, A. Vedaldi, V. Lempitsky, 2017, arXiv 1701.02096
Command:  python launch.py --experiment=fast_style --init_from=WEIGHTS --style=PAINTING.jpg --dataset=folder:PHOTOS
          --dataset.classes=none, then python launch.py predict --workdir=RUN --images=PHOTO.jpg
Result:   six photos, The Starry Night, seed 0: style loss 0.353 and content loss 1.30 over steps 151 to 165, from 1.03 and 1.32
          over the first 15; 150 CPU seconds with compilation. It was stopped there, with the photo's outlines and the
          painting's colours, but without its strokes. The 500 steps of the defaults are not measured yet.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.resize import crop
from cnnlab.recipes.synthesis import fast_style_transfer
from cnnlab.values import Duration

experiment = partial(
    fast_style_transfer,
    data=partial(
        images,
        dataset="sample_photos",
        batch_size=2,
        image_size=160,
        image_fit=partial(crop, fraction=1.0),
        augment="flip,random_resized_crop",
    ),
    duration=Duration(500, "steps"),
)
