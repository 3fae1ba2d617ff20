"""Recipes that ask what the features of a trunk are worth: of a run or a file, random, or of weights that are trained first."""

import dataclasses
from functools import partial
from typing import Any

from cnnlab.core import FROZEN, Experiment, Phase
from cnnlab.data.images import PIPELINES, require_labels
from cnnlab.data.labelled_once import each_once_after
from cnnlab.engine.program import phases
from cnnlab.errors import UsageError
from cnnlab.interop.start import part_started_from, start_beside
from cnnlab.models import MODELS
from cnnlab.models.trunk import trunk_of
from cnnlab.models.trunk_layers import FEATURES, init_trunk, layer_vectors, require_trunk_layers
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.recipes.starts import STARTS
from cnnlab.tasks.chosen_metrics import with_metrics
from cnnlab.tasks.goals import CLASS
from cnnlab.tasks.measures import MEASURES
from cnnlab.tasks.probe import MEMORY, PROBE, QUIET, REMEMBER, Trunk, frozen, probed, solve, trunk_of_classifier
from cnnlab.values import Choice, Choices, Count, DrawSeed, Duration, PathText

PretrainedImages: Any = Choice(PIPELINES, supplied=("augment", "accumulate", "examples_per_class", "examples_seed"))
"""The knob `data` of a recipe that trains on all images, each start with variations of its own, and then uses some labels."""
ProbedImages: Any = Choice(PIPELINES, supplied=("augment", "accumulate", "order", "examples_per_class", "examples_seed"))
"""The knob `data` of a recipe that shows every labelled example once, as it is."""


def linear_probe(
    *,
    model: Choice[MODELS] = "convnet",
    data: ProbedImages = "images",
    init_from: PathText | None = None,
    layers: tuple[str, ...] = (FEATURES,),
    grid: Count = 4,
    examples_per_class: Count | None = None,
    examples_seed: DrawSeed = None,
    neighbours: Count = 5,
    metrics: Choices[MEASURES] = (),
    headline: str | None = None,
) -> Experiment:
    """A linear classifier and nearest neighbours on the features of a network that is not trained: what these are worth.

    The classifier is a multinomial logistic regression on the centred features, solved exactly; its L2 penalty is chosen on a
    fifth of the labelled examples, and all of them are then used.

    Args:
        model: network, whose last layer is left out.
        data: images with labels, and how they are read.
        init_from: weights of the network: the folder of a run of a pretext task or a classifier, or a file; none: random ones.
        layers: layers whose features are probed, each by a classifier of its own, as `launch.py inspect` names them; features
            is what the last layer takes. The first one is the result, and neighbours are sought by it.
        grid: side of the grid of cells over which maps are averaged before they are probed.
        examples_per_class: number of labelled examples of each class; none: all.
        examples_seed: seed by which these are drawn: a number, or run, by the seed of each run; none: always the same ones.
        neighbours: number of the nearest labelled examples that vote, by the cosine of their features.
        metrics: further metrics of held-out splits, such as balanced_accuracy,f1,auc,ece.
        headline: metric by which studies rank; none: accuracy.
    """
    dataset = data(augment=(), examples_per_class=None)
    network = trunk_of(model, dataset.image_shape)
    start = None if init_from is None else part_started_from(init_from, into=FROZEN, model=network)
    before = Experiment(frozen(partial(init_trunk, network)), dataset, {}, steps=0, start=start)
    return _probe_after(
        before,
        trunk_of_classifier(network),
        layers=layers,
        grid=grid,
        examples_per_class=examples_per_class,
        examples_seed=examples_seed,
        neighbours=neighbours,
        metrics=metrics,
        headline=headline,
    )


def pretrained_probe(
    *,
    start: Choice[STARTS] = "pretext",
    model: Choice[MODELS] = "convnet",
    data: PretrainedImages = "images",
    optimizer: Choice[OPTIMIZERS] = "adam",
    duration: Duration = Duration(10, "epochs"),
    images_per_class: Count | None = None,
    layers: tuple[str, ...] = (FEATURES,),
    grid: Count = 4,
    examples_per_class: Count | None = None,
    examples_seed: DrawSeed = None,
    neighbours: Count = 5,
    metrics: Choices[MEASURES] = (),
    headline: str | None = None,
) -> Experiment:
    """Trains a trunk without labels, or as a control otherwise, and then asks what its features are worth: one run for both.

    Starts that differ in nothing else are paired by seed: a seed draws the same initial weights and the same labelled examples.

    Args:
        start: where the weights of the trunk come from: random, pretext, contrastive, or supervised with all labels.
        model: network, whose last layer is left out.
        data: images with labels, and how they become batches; the start has the variations.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        duration: length of training before the probe; --steps, --epochs and --examples_seen set it. A probe takes as many more
            steps as show every labelled example once, and one.
        images_per_class: number of training images of each class on which the trunk is trained, and of which those with labels
            are drawn; none: all.
        layers: layers whose features are probed, each by a classifier of its own, as `launch.py inspect` names them; features
            is what the last layer takes. The first one is the result, and neighbours are sought by it.
        grid: side of the grid of cells over which maps are averaged before they are probed.
        examples_per_class: number of labelled examples of each class that the probe sees; none: all.
        examples_seed: seed by which these are drawn: a number, or run, by the seed of each run; none: always the same ones.
        neighbours: number of the nearest labelled examples that vote, by the cosine of their features.
        metrics: further metrics of held-out splits, such as balanced_accuracy,f1,auc,ece.
        headline: metric by which studies rank; none: accuracy.
    """
    before, trunk = start(model, partial(data, examples_per_class=images_per_class), optimizer, duration)
    return _probe_after(
        before,
        trunk,
        layers=layers,
        grid=grid,
        examples_per_class=examples_per_class,
        examples_seed=examples_seed,
        neighbours=neighbours,
        metrics=metrics,
        headline=headline,
    )


def _probe_after(
    before: Experiment,
    trunk: Trunk,
    *,
    layers: tuple[str, ...] = (FEATURES,),
    grid: int = 4,
    examples_per_class: int | None = None,
    examples_seed: DrawSeed = None,
    neighbours: int = 5,
    metrics: tuple[Any, ...] = (),
    headline: str | None = None,
) -> Experiment:
    """Returns an experiment that trains a trunk, and at its end asks what its features are worth; `linear_probe` has the knobs.

    Args:
        before: the experiment that trains it; it ends at its last step, without an average of its weights.
        trunk: where its state has the trunk.
        layers: as in `linear_probe`, as all that follow.
        grid: as there.
        examples_per_class: as there.
        examples_seed: as there.
        neighbours: as there.
        metrics: as there.
        headline: as there.
    """
    data = before.data
    require_labels(data, "a probe")
    if not layers:
        raise UsageError(f"--layers: a probe needs at least one layer, as in --layers={FEATURES}.")
    layers = tuple(dict.fromkeys(layers))
    require_trunk_layers(trunk.network, data.image_shape, layers)
    if before.averaging or before.patience:
        raise UsageError("a probe follows the last step of training: leave --average_decay and --early_stopping out.")
    data, size = each_once_after(data, steps=before.steps, examples_per_class=examples_per_class, examples_seed=examples_seed)
    if neighbours > size:
        raise UsageError(f"--neighbours={neighbours}: there are {size} labelled examples. Give {size} or less.")
    see = partial(layer_vectors, trunk.network, layers=layers, grid=grid)
    goal = with_metrics(CLASS, metrics, headline, data.class_names)
    shape: Any = {"layers": layers, "classes": data.classes, "size": size, "neighbours": neighbours}
    walk = -(-size // data.batch_size)
    after = (Phase(walk, (REMEMBER,)), Phase(1, (PROBE,), solve(data.classes)))
    return dataclasses.replace(
        before,
        task=probed(before.task, trunk, see, goal=goal, **shape),
        data=data,
        optimizers={**before.optimizers, REMEMBER: QUIET, PROBE: QUIET},
        steps=before.steps + walk + 1,
        phases=(*(phase for phase in phases(before) if phase.steps), *after),
        start=None if before.start is None else start_beside(before.start, players=(PROBE,), collections=(MEMORY,)),
    )
