"""A small U-Net on scenes: handwritten digits on cluttered canvases, the class of every pixel. Nothing is downloaded.

Paper:    O. Ronneberger, P. Fischer, T. Brox, U-Net: Convolutional networks for biomedical image segmentation, 2015, arXiv
          1505.04597, with padded convolutions and batch normalisation; a class for every digit
Command:  python launch.py --experiment=unet_scenes
Result:   not run yet.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.models.unet import UNet
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.segmentation import segmentation
from cnnlab.values import Duration

experiment = partial(
    segmentation,
    model=partial(UNet, width=16, levels=3),
    data=partial(images, dataset="scenes", batch_size=16),
    losses="cross_entropy,dice",
    optimizer=partial(adam, lr=0.003, schedule="cosine"),
    duration=Duration(10, "epochs"),
)
