"""Gated PixelCNN (31,265 parameters), which has no blind spot, on binary MNIST at 14x14.

Paper:    A. van den Oord et al., Conditional image generation with PixelCNN decoders, 2016, arXiv 1606.05328
Command:  python launch.py --experiment=gated_pixelcnn_mnist [--conditional]
Result:   training loss 47.17 nats at step 119 of 4220, one seed. The run was stopped there; no complete run has been made.
          The baseline that predicts each pixel by its mean over the training images has 53.29 test nats.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.models.pixelcnn import GatedPixelCNN
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.pixels import pixel_by_pixel
from cnnlab.values import Duration

experiment = partial(
    pixel_by_pixel,
    model=partial(GatedPixelCNN, width=16),
    data=partial(images, dataset="tfds:mnist", image_size=14),
    optimizer=partial(adam, lr=0.003),
    duration=Duration(5, "epochs"),
)
