"""A small convnet whose weights and activations are 8-bit integers, on the digits of scikit-learn.

Paper:    B. Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only inference, 2018,
          arXiv 1712.05877
Command:  python launch.py --experiment=int8_convnet_digits
Result:   test accuracy 0.929 ± 0.016 over 3 seeds, in floats 0.929 ± 0.014; with 4, 3 and 2 bits 0.878, 0.734 and 0.221, with
          --training=aware 0.920, 0.902 and 0.647; 16 s of CPU time a seed
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.models.convnet import ConvNet
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.tasks.quantize import integers
from cnnlab.values import Duration

experiment = partial(
    classification,
    model=partial(ConvNet, widths=(16, 32), depth=1),
    data=partial(images, dataset="digits", augment="shift"),
    optimizer=partial(momentum, lr=0.1),
    quantization=integers,
    duration=Duration(20, "epochs"),
)
