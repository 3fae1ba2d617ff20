"""Claim C1: a perceptron cannot learn XOR; a multi-layer perceptron with one hidden layer can.

Paper:    M. Minsky, S. Papert, Perceptrons, 1969
Command:  python launch.py --experiment=xor --seeds=5        or         --model=linear --loss=perceptron
Result:   test accuracy 1.0000 ± 0.0000 (MLP), 0.5000 ± 0.0000 (perceptron) over 5 seeds; 2 s a seed on 2 CPU cores.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.models.mlp import MLP
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model=partial(MLP, widths=(8,)),
    data=partial(images, dataset="xor", batch_size=None, validation=0.0, normalize="none"),
    duration=Duration(500, "steps"),
)
