"""A U-Net on EfficientNet-Lite0 labels aerial tiles of Dubai: buildings, land, roads, vegetation and water, from few images.

Paper:    O. Ronneberger, P. Fischer, T. Brox, U-Net: Convolutional networks for biomedical image segmentation, 2015, arXiv
          1505.04597, with the encoder of another network
Data:     Humans in the Loop, Semantic segmentation dataset of aerial imagery of Dubai (CC0): 45 images of five of its eight
          tiles; those of tile 6 are the test split. docs/columns.md has the file of its classes
Command:  python launch.py --experiment=unet_aerial --dataset=masks:PATH --dataset.test_groups=tile6
Study:    python launch.py ablate --experiment=unet_aerial --dataset=masks:PATH --dataset.test_groups=tile6
          --vary=init_from:none,efficientnet_lite0.safetensors --seeds=3
Result:   test mIoU 52.8 ± 1.5 % from ImageNet's weights, 46.4 ± 5.7 % from scratch, 3 paired seeds: undecided, 6.4 [−4.4, 17.2]
          points.

Images lie on a canvas at half their size; training takes crops of 128x128. Most pixels are land; what colour alone can say is
measured by colours_aerial.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.normalize import half
from cnnlab.data.resize import canvas
from cnnlab.data.variations.crop import random_crop
from cnnlab.models.efficientnet import efficientnet_lite0
from cnnlab.models.unet import UNet
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.segmentation import segmentation
from cnnlab.values import Duration

aerial = partial(
    images,
    dataset="masks:aerial_dubai",
    image_fit=partial(canvas, scale=0.5),
    augment=(partial(random_crop, size=128), "flip", "quarter_turns"),
    normalize=half,
    batch_size=8,
    validation=0.0,
)
"""The tiles, of which training sees crops."""

experiment = partial(
    segmentation,
    model=partial(UNet, width=16, up="bilinear", backbone=efficientnet_lite0),
    data=aerial,
    losses="cross_entropy,dice",
    optimizer=partial(adam, lr=0.002, schedule="cosine"),
    duration=Duration(100, "epochs"),
)
