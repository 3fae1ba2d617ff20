"""Distillation on Fashion-MNIST: a small dense network learns what a convolutional one says.

Paper:    G. Hinton, O. Vinyals, J. Dean, Distilling the knowledge in a neural network, 2015, arXiv 1503.02531, section 3: on
          MNIST a net of 800 units a layer went from 146 errors to 74 with a teacher of 67
Command:  python launch.py --experiment=distil_fashion --data_dir=DIR; --teacher_from=RUN takes the network of a run
Result:   not measured
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
    model=partial(MLP, widths=(32,)),
    teacher=partial(ConvNet, widths=(16, 32)),
    data=partial(images, dataset="tfds:fashion_mnist", batch_size=128),
    optimizer=partial(adam, lr=0.002),
    teacher_duration=Duration(4, "epochs"),
    duration=Duration(15, "epochs"),
)
