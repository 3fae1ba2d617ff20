"""A vector-quantised autoencoder on Fashion-MNIST: an image of 28x28 is coded by 7x7 entries of a codebook of 128.

Paper:    A. van den Oord, O. Vinyals, K. Kavukcuoglu, Neural discrete representation learning, 2017, arXiv 1711.00937
Command:  python launch.py --experiment=vq_vae_fashion
Result:   reconstruction 205.2 nats (Bernoulli), perplexity of the codes 100.7 of 128, all entries used, after 5 epochs, one
          seed; 10 min on 2 CPU cores while other programs ran. Reconstructions lose fine patterns. Generated images are
          blobs: there is no learned prior, and each code is sampled by its frequency at its position alone.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.vae import quantized_autoencoder
from cnnlab.values import Duration

experiment = partial(
    quantized_autoencoder, data=partial(images, dataset="tfds:fashion_mnist", batch_size=100), duration=Duration(5, "epochs")
)
