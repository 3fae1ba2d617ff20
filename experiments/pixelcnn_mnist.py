"""PixelCNN (27,489 parameters) on binary MNIST at 14x14, which a CPU trains in minutes; the paper's 28x28 by knobs.

Paper:    A. van den Oord, N. Kalchbrenner, K. Kavukcuoglu, Pixel recurrent neural networks, 2016, arXiv 1601.06759
Command:  python launch.py --experiment=pixelcnn_mnist
          python launch.py --experiment=pixelcnn_mnist --image_size=none --width=32 --binarize=static --epochs=100   (a GPU)
Result:   test 43.83 nats (0.3226 bits/dim), one seed, 8 min 04 s on 2 CPU cores beside tests (13 steps/s where they are
          quiet: 5 to 6 min). Each pixel by the training mean alone: 53.29 (28x28: 205.80).

Grey is drawn to black or white, which costs most of the nats at 14x14, where every edge is grey. The run of 28x28 was begun
on the CPU, for 3 epochs in place of 100: 91.80 test nats after 1,923 of its 2,531 steps, 33 min beside other work. The paper
reaches 81.30 nats there, on one binarisation for ever (near static, but another draw).
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
