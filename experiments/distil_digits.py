"""Distillation on scikit-learn's digits: a small dense network learns what a convolutional one says. Nothing is downloaded.

Paper:    G. Hinton, O. Vinyals, J. Dean, Distilling the knowledge in a neural network, 2015, arXiv 1503.02531
Command:  python launch.py --experiment=distil_digits; --soft_weight=0 trains the student alone
Result:   test accuracy 96.0 ± 1.0 %, of the student alone 96.5 ± 0.6 %, of its teacher 99.1 ± 0.4 % over 4 seeds (100 to 103)

The student does not gain here: soft targets take longer to fit (98.3 % of the training images in place of 99.6 %), and with
--lr=0.01 both are equal, 96.7 and 96.6 %. docs/compression.md says more.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.models.convnet import ConvNet
from cnnlab.models.mlp import MLP
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.distillation import distillation
from cnnlab.values import Duration

experiment = partial(
    distillation,
    model=partial(MLP, widths=(16,)),
    teacher=partial(ConvNet, widths=(16, 32)),
    data=partial(images, dataset="digits", batch_size=64),
    optimizer=partial(adam, lr=0.003),
    teacher_duration=Duration(20, "epochs"),
    duration=Duration(60, "epochs"),
)
