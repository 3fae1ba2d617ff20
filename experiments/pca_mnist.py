"""Principal components of MNIST: 30 numbers for each image, the best linear code of that size.

Paper:    G. Hinton, R. Salakhutdinov, Reducing the dimensionality of data with neural networks, 2006, Science 313 (13.87)
Published: 13.87 (Hinton and Salakhutdinov 2006)
Command:  python launch.py --experiment=pca_mnist
Result:   squared error of a test image 13.8663; 43.6449 with --components=2, 7.0927 with 64. With
          --dataset=tfds:fashion_mnist 12.2429, 36.1394 and 8.1286. Nothing is random. 2 s on 2 CPU cores.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.autoencoder import principal_components

experiment = partial(principal_components, data=partial(images, dataset="tfds:mnist"), components=30)
