"""A variational autoencoder of 500 units and a code of 20 (815,824 parameters) on MNIST, binarised afresh at every step.

Paper:    D. P. Kingma, M. Welling, Auto-encoding variational Bayes, 2014, arXiv 1312.6114, Figure 2
Command:  python launch.py --experiment=vae_mnist
Result:   test ELBO −96.22 nats after 100 epochs, one seed; log p −92.1 ± 0.8 (standard error over images) by 500 samples on the
          first 900 test images, −94.4 ± 1.6 by 1000 on the first 200 (--log_p_samples=5000 for more). 9.4 ms of CPU a step
          on one core (benchmarks/vae.py; PyTorch's twin 15.2 ms), 5 s an epoch; the run took 64 min on 2 CPU cores beside ten
          others, 14 min of CPU time.
"""

from functools import partial

from cnnlab.values import Duration
from experiments.recipes_vae import variational_autoencoder

experiment = partial(
    variational_autoencoder,
    model="mlp",
    dataset="tfds:mnist",
    binarize="dynamic",
    duration=Duration(100, "epochs"),
    log_p_samples=500,
)
