"""The fully connected GAN of the first paper, on MNIST.

Paper:    I. Goodfellow et al., Generative adversarial networks, 2014, arXiv 1406.2661
Command:  python launch.py --experiment=gan_mnist
Result:   legible digits with isolated noisy pixels after 10 epochs, one seed; 7 min on 2 CPU cores while other programs ran.
          Fréchet distance of projected pixels 6.5 on test (on validation 55.9, 32.7, 16.8 and 6.6 after 1, 3, 5 and 10 epochs),
          precision 0.65, recall 0.17; D(x) 0.33, D(G(z)) 0.10.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.gan import adversarial_pair
from cnnlab.values import Duration

experiment = partial(
    adversarial_pair,
    model="mlp",
    data=partial(images, dataset="tfds:mnist", batch_size=100),
    prior="uniform",
    duration=Duration(10, "epochs"),
)
