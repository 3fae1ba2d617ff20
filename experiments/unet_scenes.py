"""A small U-Net on scenes: handwritten digits on cluttered canvases, the class of every pixel. Nothing is downloaded.

Paper:    O. Ronneberger, P. Fischer, T. Brox, U-Net: Convolutional networks for biomedical image segmentation, 2015, arXiv
          1505.04597, with padded convolutions and batch normalisation; a class for every digit
Command:  python launch.py --experiment=unet_scenes
Result:   test mIoU 0.8645, Dice 0.927, one seed; 2.5 min beside other work on 2 CPU cores.

Scenes of 32x32 with up to three digits, which may touch and never cover each other, and with parts of digits as clutter. Where
digits hide a quarter of each other (--visible=0.75) a network of this size is often wrong about both.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.scenes import scenes
from cnnlab.models.unet import UNet
from cnnlab.ops.optimizers import muon
from cnnlab.recipes.segmentation import segmentation
from cnnlab.values import Duration

experiment = partial(
    segmentation,
    model=partial(UNet, width=16, levels=2),
    data=partial(
        images,
        dataset=partial(scenes, size=32, examples=9000, sides=(0.28, 0.4), most_objects=3, visible=1.0, clutter=3),
        batch_size=16,
    ),
    losses="cross_entropy,dice",
    optimizer=partial(muon, lr=0.03, schedule="cosine"),
    duration=Duration(4, "epochs"),
)
