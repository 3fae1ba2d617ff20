"""A conditional variational autoencoder on MNIST: encoder and decoder are told the digit, the code says how it is written.

Paper:    K. Sohn, H. Lee, X. Yan, Learning structured output representation using deep conditional generative models, 2015
Command:  python launch.py --experiment=cvae_mnist
          python launch.py sample --workdir=RUN --class=3
Result:   not yet
"""

from functools import partial

from cnnlab.values import Duration
from experiments.recipes_vae import variational_autoencoder

experiment = partial(
    variational_autoencoder,
    model="mlp",
    dataset="tfds:mnist",
    binarize="dynamic",
    conditional=True,
    duration=Duration(20, "epochs"),
)
