"""A vector-quantised autoencoder on Fashion-MNIST: 7x7 codes of 128 entries for an image of 28x28.

Paper:    A. van den Oord, O. Vinyals, K. Kavukcuoglu, Neural discrete representation learning, 2017, arXiv 1711.00937
Command:  python launch.py --experiment=vq_vae_fashion
Result:   not yet; with --dataset=digits --steps=300 the perplexity of its codes is 109 of 128, ELBO −39.1 nats (one seed).
"""

from functools import partial

from cnnlab.values import Duration
from experiments.recipes_vae import quantized_autoencoder

experiment = partial(quantized_autoencoder, dataset="tfds:fashion_mnist", duration=Duration(5, "epochs"))
