"""k-nearest neighbours (k = 1, L2) on the raw pixels of MNIST: 309 errors on 10,000 test images.

Paper:    Y. LeCun's MNIST page gives 3.09 % for k-NN, Euclidean (L2), without preprocessing (K. Wilder)
Published: 3.09 % error, that is 309 errors (K. Wilder, on LeCun's MNIST page)
Command:  python launch.py --experiment=knn_mnist
Result:   309 errors, as in the paper; 1503 with --dataset=tfds:fashion_mnist. Nothing is random. 8 s on 2 CPU cores.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.classification import nearest_neighbours

experiment = partial(nearest_neighbours, data=partial(images, dataset="tfds:mnist"), k=1)
