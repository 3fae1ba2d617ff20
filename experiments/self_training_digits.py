"""Self-training on the digits of scikit-learn: 5 labelled images a class, and all other training images without labels."""

from functools import partial

from cnnlab.data.images import images
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.semi_supervised import partly_labelled_classification
from cnnlab.tasks.unlabelled_methods import self_training
from cnnlab.values import Duration

experiment = partial(
    partly_labelled_classification,
    model="mlp",
    data=partial(images, dataset="digits", batch_size=32),
    examples_per_class=5,
    method=self_training,
    optimizer=partial(adam, lr=0.001),
    duration=Duration(1000, "steps"),
)
