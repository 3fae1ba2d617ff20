"""A U-Net finds the nuclei of cells in microscope images, fluorescence and histology, by 120 images of 128x128.

Paper:    O. Ronneberger, P. Fischer, T. Brox, U-Net: Convolutional networks for biomedical image segmentation, 2015, arXiv
          1505.04597, with padded convolutions, batch normalisation and a soft Dice loss beside cross-entropy
Data:     a part of the Data Science Bowl 2018 (J. C. Caicedo et al., Nucleus segmentation across imaging experiments: the 2018
          Data Science Bowl, 2019): 160 images, 40 of which are the test split
Command:  python launch.py --experiment=unet_nuclei --dataset=nuclei:PATH
Result:   IoU of the nuclei 0.784 ± 0.003 over 3 seeds, pooled over the 40 test images (Otsu's threshold: 0.726), Dice 0.879;
          mIoU 0.888 of fluorescence, 0.828 of histology; 4.5 min a seed beside other work on 2 CPU cores.

All but 8 % of the pixels are background, so accuracy says nothing: what counts is the IoU of the nuclei, pooled over all test
images. Otsu's threshold (otsu_nuclei), which learns nothing, is the number to beat.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.normalize import half
from cnnlab.models.unet import UNet
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.segmentation import segmentation
from cnnlab.values import Duration

experiment = partial(
    segmentation,
    model=partial(UNet, width=16, levels=3),
    data=partial(
        images,
        dataset="nuclei:stage1_train",
        image_size=128,
        batch_size=8,
        validation=0.0,
        normalize=half,
        augment="flip,quarter_turns",
    ),
    losses="cross_entropy,dice",
    optimizer=partial(adam, lr=0.002, schedule="linear"),
    duration=Duration(27, "epochs"),
)
