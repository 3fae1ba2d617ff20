"""A variational autoencoder of 500 units and a code of 20 (815,824 parameters) on MNIST, binarised afresh at every step.

Paper:    D. P. Kingma, M. Welling, Auto-encoding variational Bayes, 2014, arXiv 1312.6114, Figure 2
Command:  python launch.py --experiment=vae_mnist
Result:   validation ELBO −97.15 nats after 100 epochs, one seed (test −96.70 after 75); log p −94.4 ± 1.6 (standard error) by
          5000 samples (--log_p_samples=5000) on the first 200 test images after 75 epochs. 9.4 ms of CPU a step on one core
          (benchmarks/vae.py), 5 s an epoch; PyTorch's twin 15.2 ms. The run took 66 min on 2 CPU cores beside ten others.
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
