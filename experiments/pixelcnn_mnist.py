"""PixelCNN (27,489 parameters) on binary MNIST at 14x14, which a CPU trains in minutes. Knobs give the paper's 28x28.

Paper:    A. van den Oord, N. Kalchbrenner, K. Kavukcuoglu, Pixel recurrent neural networks, 2016, arXiv 1601.06759
Command:  python launch.py --experiment=pixelcnn_mnist
          python launch.py --experiment=pixelcnn_mnist --image_size=none --width=32 --binarize=static --epochs=100   (a GPU)
Result:   test 43.83 nats (0.3226 bits/dim), one seed; 8 min 04 s on 2 CPU cores while tests ran (13 steps/s on an idle
          machine, that is 5 to 6 min). The baseline that predicts each pixel by its mean over the training images: 53.29
          (28x28: 205.80).

Each grey pixel is sampled to black or white. At 14x14, where every edge is grey, this sampling accounts for most of the nats.
A run at 28x28 was started on the CPU, for 3 epochs in place of 100: 91.80 test nats after 1,923 of its 2,531 steps, in 33 min
while other programs ran. The paper reaches 81.30 nats there, on images that were binarised once (as by --binarize=static, but
with other random numbers).
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.models.pixelcnn import PixelCNN
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.pixels import pixel_by_pixel
from cnnlab.values import Duration

experiment = partial(
    pixel_by_pixel,
    model=partial(PixelCNN, width=16),
    data=partial(images, dataset="tfds:mnist", image_size=14),
    optimizer=partial(adam, lr=0.003),
    duration=Duration(5, "epochs"),
)
