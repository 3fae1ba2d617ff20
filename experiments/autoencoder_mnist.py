"""The deep autoencoder 784-1000-500-250-30 (2,837,314 parameters) on MNIST.

Paper:    G. Hinton, R. Salakhutdinov, Reducing the dimensionality of data with neural networks, 2006, Science 313 (3.00)
Published: 3.00 with logistic units and RBM pre-training (Hinton and Salakhutdinov 2006)
Command:  python launch.py --experiment=autoencoder_mnist
Result:   test squared error 5.07, one seed, 49 s on 2 CPU cores (PCA with 30 components: 13.87). Deviation: rectified units;
          the paper has logistic units, pre-trained as RBMs.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.models.autoencoder import MLPAutoencoder
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.autoencoder import reconstruction
from cnnlab.values import Duration

experiment = partial(
    reconstruction,
    model=partial(MLPAutoencoder, widths=(1000, 500, 250), code=30),
    data=partial(images, dataset="tfds:mnist", batch_size=64),
    loss="cross_entropy",
    optimizer=partial(adam, lr=0.002),
    duration=Duration(4, "epochs"),
)
