"""Any pretext task on the handwritten digits of scikit-learn, without their labels; rotation unless --pretext=… is given.

Paper:    S. Gidaris, P. Singh, N. Komodakis, Unsupervised representation learning by predicting image rotations, ICLR 2018,
          arXiv 1803.07728
Command:  python launch.py --experiment=pretext_digits
Result:   not measured
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.values import Duration

experiment = partial(pretext_learning, data=partial(images, dataset="digits"), duration=Duration(10, "epochs"))
