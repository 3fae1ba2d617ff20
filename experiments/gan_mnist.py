"""The fully connected pair of the first paper, on MNIST.

Paper:    I. Goodfellow et al., Generative adversarial networks, 2014, arXiv 1406.2661
Command:  python launch.py --experiment=gan_mnist
Result:   not yet; only its first 50 steps were run.
"""

from functools import partial

from cnnlab.values import Duration
from experiments.recipes_gan import adversarial_pair

experiment = partial(
    adversarial_pair,
    model="mlp",
    dataset="tfds:mnist",
    prior="uniform",
    batch_size=100,
    duration=Duration(10, "epochs"),
)
