"""The recipe of pretext tasks, by which a network learns from images without their labels what other tasks start from."""

from cnnlab.core import PRETEXT, TRUNK, Experiment
from cnnlab.data.images import PIPELINES, require_validation
from cnnlab.data.variations.lens import LEAKS
from cnnlab.interop.start import part_started_from
from cnnlab.models import MODELS
from cnnlab.models.trunk import trunk_of
from cnnlab.ops.averaging import AVERAGES, ema
from cnnlab.ops.optimizers import OPTIMIZERS, scale_by_layer
from cnnlab.ops.regularizers import REGULARIZERS, penalties
from cnnlab.recipes.pretexts import PRETEXTS
from cnnlab.tasks.leaks import with_leaks
from cnnlab.values import Choice, Choices, Count, Duration, PathText


def pretext_learning(
    *,
    pretext: Choice[PRETEXTS] = "rotation",
    model: Choice[MODELS] = "convnet",
    data: Choice[PIPELINES] = "images",
    optimizer: Choice[OPTIMIZERS] = "adam",
    regularizer: Choice[REGULARIZERS] = penalties,
    duration: Duration = Duration(20, "epochs"),
    early_stopping: Count | None = None,
    average: Choice[AVERAGES] = ema,
    init_from: PathText | None = None,
    leak: Choices[LEAKS] = (),
    lr_multipliers: tuple[str, ...] = (),
) -> Experiment:
    """A pretext task: one player answers a question about unlabelled images, whose answer is known from how it was made.

    Other tasks start from the trunk of the run: --init_from=RUN --new_head of a classifier, --init_from=RUN of a network with
    that backbone.

    Args:
        pretext: the task.
        model: trunk, a network without its last layer; the task puts a head of its own in its place.
        data: images, and how they become batches; labels are not looked at.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        regularizer: L1 and L2 penalties on the weights, and a bound on the norm of each unit's.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        early_stopping: validations in a row without an improvement after which training ends, with the best weights; none: off.
        average: average of the parameters over training that is evaluated in their place; ema with average_decay=0: none.
        init_from: weights from which the trunk starts: a file, or the folder of a run of a pretext task or a classifier.
        leak: what all images have, held-out ones too, by which the task could be solved without their content: a fringe of the
            lens, or a mark in a corner; the task is measured without it, too.
        lr_multipliers: REGEX=FACTOR for the learning rate of the matching layers, such as trunk=0.1; the first match counts.
    """
    dataset = require_validation(data(), early_stopping)
    trunk = trunk_of(model, dataset.image_shape)
    task = with_leaks(pretext(trunk, dataset.inputs), tuple(leak), dataset.inputs)
    steps = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    rules = dict.fromkeys(task.turns, regularizer(scale_by_layer(optimizer(steps=steps), lr_multipliers)))
    start = None if init_from is None else part_started_from(init_from, into=f"{PRETEXT}/{TRUNK}", model=trunk)
    return Experiment(task, dataset, rules, steps, average(steps), start, (), early_stopping)
