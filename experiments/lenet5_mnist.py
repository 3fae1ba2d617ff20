"""LeNet-5 (modern form, 61,706 parameters) on MNIST, padded from 28x28 to 32x32 as in the paper, with shifts of up to 2 pixels.

Paper:    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, 1998 (0.95 %)
Published: 0.95 % error without distortions (LeCun et al. 1998), the network of 1998
Command:  python launch.py --experiment=lenet5_mnist --seeds=3
Result:   not run yet. At --lr=0.05, which kills LeNet-5's units in one seed of seven on scikit-learn's digits, the test error
          was 0.79 ± 0.18 % over 3 seeds; 3 to 5 min a seed on 2 CPU cores.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.variations.crop import pad_crop
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model="lenet5",
    data=partial(
        images,
        dataset="tfds:mnist",
        batch_size=128,
        image_size=32,
        image_fit="pad",
        augment=partial(pad_crop, pad=2),
    ),
    optimizer=partial(momentum, lr=0.02, weight_decay=5e-4),
    duration=Duration(15, "epochs"),
)
