"""Contrastive learning on the handwritten digits of scikit-learn, without their labels: SimCLR in small.

Paper:    T. Chen, S. Kornblith, M. Norouzi, G. Hinton, A simple framework for contrastive learning of visual representations,
          2020, arXiv 2002.05709
Command:  python launch.py --experiment=simclr_digits
Result:   not measured.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.recipes.contrastive import contrastive_learning
from cnnlab.values import Duration

experiment = partial(
    contrastive_learning,
    data=partial(images, dataset="digits", batch_size=128, augment="random_resized_crop,color_distortion"),
    hidden=(64,),
    dimension=32,
    duration=Duration(20, "epochs"),
)
