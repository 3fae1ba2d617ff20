"""SimCLR on CIFAR-10 without its labels, with ResNet-18 for small images; linear_probe says what its features are worth.

Paper:    T. Chen, S. Kornblith, M. Norouzi, G. Hinton, A simple framework for contrastive learning of visual representations,
          2020, arXiv 2002.05709, appendix B.9
Data:     A. Krizhevsky, Learning multiple layers of features from tiny images, 2009
Command:  python launch.py --experiment=simclr_cifar10
          python launch.py --experiment=probe_cifar10 --init_from=RUN --model=resnet18 --stem=small
Result:   not measured.

Published for ResNet-18 after 1000 epochs: a linear probe reaches about 91 % (README of google-research/simclr).
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.models.resnet import resnet18
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.contrastive import AUGMENT, contrastive_learning
from cnnlab.values import Duration

experiment = partial(
    contrastive_learning,
    model=partial(resnet18, stem="small"),
    data=partial(images, dataset="tfds:cifar10", batch_size=512, validation=0.0, augment=AUGMENT),
    hidden=(512,),
    optimizer=partial(momentum, lr=0.3, weight_decay=1e-4),
    duration=Duration(100, "epochs"),
)
