"""The recipe of contrastive learning: a network learns from two views of every image, without labels."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn

from cnnlab.core import Dataset, Experiment, Task
from cnnlab.data.images import PIPELINES, images
from cnnlab.data.variations.views import with_two_views
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec
from cnnlab.models import MODELS
from cnnlab.models.projector import Projector
from cnnlab.ops.averaging import AVERAGES, ema
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.regularizers import REGULARIZERS, penalties
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.tasks.contrast import NEGATIVES, Negatives, contrast
from cnnlab.values import Choice, Count, Duration, PathText, Positive

AUGMENT = "random_resized_crop,flip,color_distortion"
"""The variations of SimCLR for small images (Chen et al. 2020, arXiv 2002.05709, appendix B.9): without blur."""


def contrastive_learning(
    *,
    model: Choice[MODELS] = "convnet",
    data: Choice[PIPELINES] = partial(images, batch_size=256, augment=AUGMENT),
    negatives: Choice[NEGATIVES] = "batch",
    tau: Positive = 0.5,
    hidden: tuple[int, ...] = (256,),
    dimension: Count = 128,
    optimizer: Choice[OPTIMIZERS] = "adam",
    regularizer: Choice[REGULARIZERS] = penalties,
    duration: Duration = Duration(100, "epochs"),
    average: Choice[AVERAGES] = ema,
    init_from: PathText | None = None,
    lr_multipliers: tuple[str, ...] = (),
) -> Experiment:
    """Contrastive learning: one player brings two views of an image near each other, and those of different images apart.

    Other tasks start from the trunk of the run, as from that of a pretext task: --init_from=RUN --new_head of a classifier, or
    linear_probe --init_from=RUN.

    Args:
        model: trunk, a network without its last layer; the projection takes its place.
        data: images, and how they become batches; `augment` makes the views, and labels are not looked at.
        negatives: what a view is told apart from: batch, the other views of the batch (SimCLR); queue, the keys of earlier
            batches (MoCo); none, a control that collapses.
        tau: temperature, the number by which cosines are divided.
        hidden: units of the layers between the features and the projection; empty: the projection is linear.
        dimension: numbers of the projection.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        regularizer: L1 and L2 penalties on the weights, and a bound on the norm of each unit's.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        average: average of the parameters over training that is evaluated in their place; ema with average_decay=0: none.
        init_from: weights from which the trunk starts: a file, or the folder of a run of a pretext task or a classifier.
        lr_multipliers: REGEX=FACTOR for the learning rate of the matching layers, such as trunk=0.1; the first match counts.
    """
    return pretext_learning(
        pretext=partial(_contrastive, negatives=negatives, tau=tau, hidden=hidden, dimension=dimension),
        model=model,
        data=partial(_in_two_views, data),
        optimizer=optimizer,
        regularizer=regularizer,
        duration=duration,
        early_stopping=None,
        average=average,
        init_from=init_from,
        lr_multipliers=lr_multipliers,
    )


def _contrastive(
    trunk: nn.Module,
    inputs: InputSpec,
    *,
    negatives: Callable[[], Negatives],
    tau: float,
    hidden: tuple[int, ...],
    dimension: int,
) -> Task:
    """Returns the task, as the functions of PRETEXTS do; `contrastive_learning` describes the arguments."""
    network = Projector(trunk, hidden, dimension)
    return contrast(network, negatives=negatives(), temperature=tau, dimension=dimension)


def _in_two_views(data: Choice[PIPELINES]) -> Dataset:
    """Returns the data with two views of every image; UsageError where both are the image itself."""
    dataset: Dataset = data()
    keywords = getattr(data, "keywords", {})
    if not keywords.get("augment", True):
        raise UsageError(
            "--augment=none: both views are then the image itself, and there is nothing to learn.\n"
            f"Give variations, such as --augment={AUGMENT}."
        )
    return with_two_views(dataset)
