"""The recipe of semi-supervised classification, which experiments fill in with defaults of their own."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cnnlab.core import Dataset, Experiment, Phase
from cnnlab.data.images import PIPELINES, images, require_labels
from cnnlab.data.stream_order import shuffled_order
from cnnlab.data.unlabelled import with_unlabelled
from cnnlab.errors import UsageError
from cnnlab.models import MODELS
from cnnlab.models.own_network import as_network
from cnnlab.ops.attacks import no_attack
from cnnlab.ops.losses import LOSSES, require_loss
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.regularizers import REGULARIZERS, penalties
from cnnlab.tasks.adversarial import robust
from cnnlab.tasks.chosen_metrics import with_metrics
from cnnlab.tasks.goals import Goal, goal_of
from cnnlab.tasks.measures import MEASURES
from cnnlab.tasks.semi_supervised import new_round, semi_supervised
from cnnlab.tasks.unlabelled_methods import METHODS, Method
from cnnlab.values import Choice, Choices, Count, DrawSeed, Duration, Fraction

PartlyLabelled: Any = Choice(PIPELINES, supplied=("accumulate", "order", "examples_per_class", "examples_seed"))
"""The knob `data` of a recipe that uses the labels of some training examples, and the images alone of the others."""


def partly_labelled_classification(
    *,
    model: Choice[MODELS] = "mlp",
    data: PartlyLabelled = partial(images, batch_size=32),
    examples_per_class: Count = 10,
    examples_seed: DrawSeed = None,
    wrong_labels: Fraction = 0.0,
    unlabelled_ratio: Count = 4,
    method: Choice[METHODS] = "self_training",
    loss: Choice[LOSSES] = "cross_entropy",
    optimizer: Choice[OPTIMIZERS] = "momentum",
    regularizer: Choice[REGULARIZERS] = penalties,
    duration: Duration = Duration(2000, "steps"),
    metrics: Choices[MEASURES] = (),
    headline: str | None = None,
) -> Experiment:
    """Image classification from a few labels and many images without: every batch has some of both.

    Only the training split is divided: validation and test stay out of training altogether, with their images, too. With
    --method.weight=0 it is training on the labelled examples alone, with as many steps.

    Args:
        model: network.
        data: images with labels, and how they become batches; its batch size is that of the labelled examples.
        examples_per_class: number of training examples of each class whose label is used.
        examples_seed: seed by which these are drawn: a number, or run, by the seed of each run; none: always the same ones.
        wrong_labels: share of the labelled examples that are given another class than their own.
        unlabelled_ratio: number of images without labels in a step for each labelled one.
        method: what is learned from images without labels.
        loss: loss of the labelled examples, and of the classes that a method gives.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        regularizer: L1 and L2 penalties on the weights, and a bound on the norm of each unit's.
        duration: length of training; --steps, --epochs and --examples_seen set it. An epoch shows labelled examples, again and
            again, as often as there are training examples.
        metrics: further metrics of held-out splits, such as balanced_accuracy,f1,auc,ece.
        headline: metric by which checkpoints and studies rank; none: accuracy.
    """
    whole = data(accumulate=1, order=shuffled_order, examples_per_class=None, examples_seed=None)
    goal = _goal(whole, loss, metrics, headline)
    dataset = with_unlabelled(
        whole,
        examples_per_class=examples_per_class,
        examples_seed=examples_seed,
        wrong_labels=wrong_labels,
        ratio=unlabelled_ratio,
    )
    steps, chosen = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size), method()
    network = as_network(model(classes=dataset.classes), dataset.image_shape, (dataset.classes,))
    task = semi_supervised(network, method=chosen, steps=steps, loss=loss, goal=goal)
    phases = rounds_of(chosen, steps, task.turns)
    rules = dict.fromkeys(task.turns, regularizer(optimizer(steps=steps)))
    task = robust(task, attack=no_attack, probes=goal.probes, loss=loss, column=goal.column, inputs=dataset.inputs)
    return Experiment(task, dataset, rules, steps, phases=phases)


def _goal(data: Dataset, loss: Callable[..., Any], metrics: Sequence[Any], headline: str | None) -> Goal:
    """Returns what is learned, the class, with the metrics of choice; UsageError for data without it, and other losses."""
    require_labels(data, "learning from images partly without labels")
    goal = with_metrics(goal_of(data.name, data.stored, loss), metrics, headline, data.class_names)
    require_loss(loss, data.classes, lambda training: data.example(2, training=training)[goal.column])
    return goal


def rounds_of(method: Method, steps: int, turns: tuple[str, ...]) -> tuple[Phase, ...]:
    """Returns the phases of training: one on the labels alone and the rounds, of equal length; () where there are no rounds.

    Raises UsageError where training has fewer steps than rounds.
    """
    parts = method.rounds + 1
    if parts == 1 or steps == 0:
        return ()
    if steps < parts:
        raise UsageError(
            f"--rounds={method.rounds}: training has {steps} steps, and {parts} parts with the one on labels alone.\n"
            "Give fewer rounds, or more --steps."
        )
    ends = [round(part * steps / parts) for part in range(parts + 1)]
    lengths = [end - start for start, end in itertools.pairwise(ends)]
    return tuple(Phase(length, turns, new_round if part else None) for part, length in enumerate(lengths))
