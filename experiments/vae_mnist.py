"""A variational autoencoder with 500 hidden units and a code of 20 (815,824 parameters) on MNIST, binarised at every step.

Paper:    D. P. Kingma, M. Welling, Auto-encoding variational Bayes, 2014, arXiv 1312.6114, Figure 2
Command:  python launch.py --experiment=vae_mnist
Result:   test ELBO −96.22 nats after 100 epochs, one seed; log p −91.84 (5000 samples, all 10,000 test images:
          --log_p_samples=5000). 15 min of training and 23 min to estimate log p, on 2 CPU cores while many other programs ran.
          A step takes 9.4 ms of CPU time on one core (`benchmarks steps.vae`; the same model in PyTorch takes 15.2 ms).
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.vae import variational_autoencoder
from cnnlab.values import Duration

experiment = partial(
    variational_autoencoder,
    model="mlp",
    data=partial(images, dataset="tfds:mnist", batch_size=100),
    binarize="dynamic",
    duration=Duration(100, "epochs"),
    log_p_samples=500,
)
