"""The deep autoencoder 784-1000-500-250-30 (2,837,314 parameters) on MNIST.

Paper:    G. Hinton, R. Salakhutdinov, Reducing the dimensionality of data with neural networks, 2006, Science 313 (3.00)
Command:  python launch.py --experiment=autoencoder_mnist
Result:   not run to its end; with --widths=500,250 --epochs=2 the test squared error is 6.10, one seed (PCA: 13.87), after
          4 min on 2 CPU cores beside much other work. Rectified units where the paper has logistic ones begun as RBMs.
"""

from functools import partial

from cnnlab.models.autoencoder import MLPAutoencoder
from cnnlab.ops.optimizers import adam
from cnnlab.values import Duration
from experiments.recipes_autoencoder import reconstruction

experiment = partial(
    reconstruction,
    model=partial(MLPAutoencoder, widths=(1000, 500, 250), code=30),
    dataset="tfds:mnist",
    loss="cross_entropy",
    optimizer=partial(adam, lr=0.002),
    batch_size=64,
    duration=Duration(4, "epochs"),
)
