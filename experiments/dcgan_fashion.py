"""DCGAN on Fashion-MNIST, narrow enough for a CPU.

Paper:    A. Radford, L. Metz, S. Chintala, Unsupervised representation learning with deep convolutional generative adversarial
          networks, 2016, arXiv 1511.06434
Command:  python launch.py --experiment=dcgan_fashion           or          --loss=wgan_gp --critic_steps=5
Result:   Fréchet distance 10.6 to the 10,000 test images, by the features of LeNet-5 (test accuracy 89.2 %), n = 1. All
          classes are generated: their entropy is 2.29, of at most ln 10 = 2.30. On validation the distance is 32.0, 21.2, 17.2,
          14.1, 12.4 and 10.4 after 1 to 6 epochs. Shirts, trousers, shoes and bags are recognisable. 53 min on 2 CPU cores
          under heavy load from other programs.
          WGAN-GP with five critic steps, 500 steps: 66.7, 53.0, 44.4 and 38.2 on validation after 125 to 500 steps, 5 min.
          The LeNet-5 that evaluates: --experiment=lenet5_mnist --dataset=tfds:fashion_mnist --augment=flip --epochs=5
          --workdir=runs/judge, then --judge=run:runs/judge.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.models.gan import dcgan
from cnnlab.recipes.gan import adversarial_pair
from cnnlab.values import Duration

experiment = partial(
    adversarial_pair,
    model=partial(dcgan, width=32),
    data=partial(images, dataset="tfds:fashion_mnist", batch_size=64),
    duration=Duration(6, "epochs"),
)
