"""k-nearest neighbours on the pixels of scikit-learn's digits; k chosen on a held-out part of the training images.

Command:  python launch.py --experiment=knn_digits
Result:   test accuracy 0.9833 (nothing is random); under 1 s on 2 CPU cores.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.classification import nearest_neighbours

experiment = partial(nearest_neighbours, data=partial(images, dataset="digits"), k=None)
