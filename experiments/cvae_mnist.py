"""A conditional variational autoencoder on MNIST: encoder and decoder also take the digit, so the code describes its style.

Paper:    K. Sohn, H. Lee, X. Yan, Learning structured output representation using deep conditional generative models, 2015
Command:  python launch.py --experiment=cvae_mnist
          python launch.py sample --workdir=RUN --class=3
Result:   test ELBO −98.71 nats, log p −95.43 (100 samples), KL 23.8 after 20 epochs, one seed; 3 min on 2 CPU cores
          while other programs ran. Some of 16 images generated for class 3 do not look like a clear 3.
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
    conditional=True,
    duration=Duration(20, "epochs"),
)
