"""A small U-Net on scenes: handwritten digits on cluttered canvases, the class of every pixel. Nothing is downloaded.

Paper:    O. Ronneberger, P. Fischer, T. Brox, U-Net: Convolutional networks for biomedical image segmentation, 2015, arXiv
          1505.04597, with padded convolutions and batch normalisation; a class for every digit
Command:  python launch.py --experiment=unet_scenes
Result:   test mIoU 0.708, Dice 0.825, one seed; 4 min beside other work on 2 CPU cores.

Scenes of 32x32 with up to three digits, some of them half covered. Most pixels of digits are found; one of six is taken for
another digit.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.scenes import scenes
from cnnlab.models.unet import UNet
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.segmentation import segmentation
from cnnlab.values import Duration

experiment = partial(
    segmentation,
    model=partial(UNet, width=16, levels=3),
    data=partial(images, dataset=partial(scenes, size=32, examples=6000, most_objects=3, clutter=3), batch_size=16),
    losses="cross_entropy,dice",
    optimizer=partial(adam, lr=0.006, schedule="cosine"),
    duration=Duration(5, "epochs"),
)
