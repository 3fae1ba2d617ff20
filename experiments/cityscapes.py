"""A U-Net on ResNet-18 labels the street scenes of Cityscapes, at half their size; predict writes what the benchmark takes.

Paper:    M. Cordts et al., The Cityscapes dataset for semantic urban scene understanding, 2016, arXiv 1604.01685; a U-Net (O.
          Ronneberger, P. Fischer, T. Brox, 2015, arXiv 1505.04597) on another encoder
Data:     leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of cityscapes-dataset.com, unpacked in one folder
Command:  python launch.py --experiment=cityscapes --dataset=cityscapes:PATH
Result:   not run yet.

Training takes crops of 256x256, evaluation whole images. The data set's own validation split is the test split here, since the
labels of its test images are not public; whole cities of the training split are held out for validation. `miou` is the class
IoU of the benchmark where, as in val, every class occurs, and `category_miou` its IoU of categories, both at half the size of
the images; iIoU is not computed. With --init_from=FILE the encoder starts from weights of ImageNet.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.normalize import imagenet
from cnnlab.data.resize import canvas
from cnnlab.data.variations.crop import random_crop
from cnnlab.models.resnet import resnet18
from cnnlab.models.unet import UNet
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.segmentation import segmentation
from cnnlab.values import Duration

experiment = partial(
    segmentation,
    model=partial(UNet, width=32, up="bilinear", backbone=resnet18),
    data=partial(
        images,
        dataset="cityscapes:cityscapes",
        batch_size=16,
        image_fit=partial(canvas, scale=0.5),
        normalize=imagenet,
        augment=(partial(random_crop, size=256), "flip"),
    ),
    optimizer=partial(momentum, lr=0.05, schedule="cosine"),
    duration=Duration(100, "epochs"),
)
