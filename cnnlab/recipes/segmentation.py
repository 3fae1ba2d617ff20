"""The recipe of segmentation, which experiments fill in with defaults of their own (functools.partial)."""

from typing import Annotated, Literal

import numpy as np

from cnnlab.core import Dataset, Experiment
from cnnlab.data.images import PIPELINES, require_validation
from cnnlab.data.kinds import Label, Mask
from cnnlab.data.kinds.recorded import kinds_of
from cnnlab.errors import UsageError
from cnnlab.interop.start import network_started_from, require_start
from cnnlab.models import SEGMENTERS
from cnnlab.models.own_network import as_network
from cnnlab.ops.averaging import AVERAGES, ema
from cnnlab.ops.dense_losses import DENSE_LOSSES
from cnnlab.ops.optimizers import OPTIMIZERS, scale_by_layer
from cnnlab.ops.regularizers import REGULARIZERS, penalties
from cnnlab.ops.tiles import ALIGNMENT
from cnnlab.tasks.class_weights import weights_of as weights_by_counts
from cnnlab.tasks.segment import segment
from cnnlab.tasks.segmentation_metrics import MaskMetrics
from cnnlab.values import Choice, Choices, Count, Duration, PathText, Range

ClassWeights = Literal["balanced", "median_frequency"] | tuple[float, ...] | None
"""The knob: balanced, median_frequency, one number >= 0 for each class, or none."""
Control = Literal["none", "random_parameters"]


def segmentation(
    *,
    model: Choice[SEGMENTERS] = "unet",
    data: Choice[PIPELINES] = "images",
    losses: Choices[DENSE_LOSSES] = ("cross_entropy",),
    class_weights: ClassWeights = None,
    optimizer: Choice[OPTIMIZERS] = "adam",
    regularizer: Choice[REGULARIZERS] = penalties,
    duration: Duration = Duration(20, "epochs"),
    early_stopping: Count | None = None,
    average: Choice[AVERAGES] = ema,
    init_from: PathText | None = None,
    new_head: bool = False,
    frozen: tuple[str, ...] = (),
    lr_multipliers: tuple[str, ...] = (),
    tile: Count | None = None,
    overlap: Annotated[int, Range(0)] = 64,
    control: Control = "none",
) -> Experiment:
    """Semantic segmentation: one player, the segmenter, gives every pixel its class.

    Args:
        model: network with an output for every pixel.
        data: images with a mask each, and how they become batches.
        losses: terms of the loss, which are added, such as cross_entropy,dice; each has a weight.
        class_weights: weights of the classes in cross-entropy: balanced, median_frequency, or numbers.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        regularizer: L1 and L2 penalties on the weights, and a bound on the norm of each unit's.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        early_stopping: validations in a row without an improvement after which training ends, with the best weights; none: off.
        average: average of the parameters over training that is evaluated in their place; ema with average_decay=0: none.
        init_from: weights to start from: of the whole network, or, where it has a backbone, a file of that network alone.
        new_head: with init_from, whether the last layer is initialised anew (needed where the classes differ).
        frozen: regular expressions of layers that are not trained, such as backbone; features: all but the last.
        lr_multipliers: REGEX=FACTOR for the learning rate of the matching layers, such as backbone=0.1; the first match counts.
        tile: height and width of the tiles in which larger images are predicted and evaluated; none: as a whole.
        overlap: pixels that neighbouring tiles share; a pixel's logits see half of them around it at least.
        control: random_parameters trains nothing, as a baseline without parameters asks for.
    """
    require_start(init_from, new_head=new_head, control=control)
    dataset = require_validation(data(), early_stopping)
    column, kind = _masks(dataset)
    metrics = MaskMetrics(kind.names, kind.ignore, column, *_groups(dataset), kind.colours, kind.published, kind.categories)
    logits = (*dataset.image_shape[:2], len(kind.names))  # of an image: (H, W, K)
    network = as_network(model(classes=len(kind.names)), dataset.image_shape, logits)
    _require_tiles(tile, overlap)
    if not losses:
        raise UsageError("--losses is empty, and training needs one.\nExpected terms such as cross_entropy,dice.")
    weights = weights_of(class_weights, dataset, column, kind)
    task = segment(network, metrics=metrics, losses=losses, class_weights=weights, frozen=frozen, tile=tile, overlap=overlap)
    steps = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    rules = dict.fromkeys(task.turns, regularizer(scale_by_layer(optimizer(steps=steps), lr_multipliers)))
    steps = 0 if control == "random_parameters" else steps
    start = None if init_from is None else network_started_from(network, init_from, new_head=new_head)
    return Experiment(task, dataset, rules, steps, average(steps), start, (), early_stopping)


def _require_tiles(tile: int | None, overlap: int) -> None:
    """Raises UsageError for tiles that do not begin where the cells of a network do, or do not move on."""
    if tile is not None and (tile % ALIGNMENT or overlap % ALIGNMENT or overlap > tile - 2 * ALIGNMENT):
        raise UsageError(
            f"--tile={tile} --overlap={overlap}: tiles would not begin at multiples of {ALIGNMENT} pixels.\n"
            f"Expected two multiples of {ALIGNMENT}, the overlap {2 * ALIGNMENT} below the tile or more, such as 512 and 128."
        )


def _masks(data: Dataset) -> tuple[str, Mask]:
    """Returns the column of masks and its kind; raises UsageError for a data set without one, or with a single class."""
    found = next(((name, kind) for name, kind in kinds_of(data).items() if isinstance(kind, Mask)), None)
    if found is None:
        raise UsageError(
            f"segmentation needs the class of every pixel, and {data.name} has no column of masks (its columns: "
            f"{', '.join(kinds_of(data))}).\nGive a data set with masks, such as --dataset=scenes or masks:PATH."
        )
    if len(found[1].names) < 2:
        raise UsageError(
            f"{data.name} has one class, {found[1].names[0]}: every pixel is right whatever a network does.\n"
            "Expected two classes at least, such as the background and an object."
        )
    return found


def _groups(data: Dataset) -> tuple[str, tuple[str, ...]]:
    """Returns the column of the kinds of images by which metrics are given apart, and their names; ("", ()) without one."""
    return next(((name, kind.names) for name, kind in kinds_of(data).items() if isinstance(kind, Label)), ("", ()))


def weights_of(wanted: ClassWeights, data: Dataset, column: str, kind: Mask) -> np.ndarray | None:
    """Returns the weights f32 [K] of the classes; None for no weights.

    `balanced` gives class k the weight (pixels) / (K · pixels of k); `median_frequency` gives it the median of all frequencies
    over its own, a frequency being its pixels over those of the images that have it (Eigen and Fergus 2015, arXiv 1411.4734,
    section 6.3.2; Badrinarayanan et al. 2017, arXiv 1511.00561, section 4.1).

    Raises UsageError for numbers that do not fit the classes, and where the pixels cannot be counted.
    """
    names = kind.names
    if not isinstance(wanted, str):
        return weights_by_counts(wanted, names, ())
    masks = data.resident.get("train", {}).get(column)
    if masks is None:
        raise UsageError(
            f"--class_weights={wanted}: the masks of {data.name} are streamed, so their pixels are not counted.\n"
            "Raise --resident_mib, or give the weights as numbers."
        )
    pixels = np.stack([np.bincount(mask.reshape(-1), minlength=256)[: len(names)] for mask in np.asarray(masks)])  # [N, K]
    total = pixels.sum(axis=0)
    if missing := [name for name, count in zip(names, total, strict=True) if count == 0]:
        raise UsageError(f"--class_weights={wanted}: no training pixel is of class {missing[0]}.\nGive the weights as numbers.")
    if wanted == "balanced":
        return weights_by_counts(wanted, names, total.tolist())
    beside = np.where(pixels > 0, pixels.sum(axis=1, keepdims=True), 0).sum(axis=0)  # pixels of the images that have class k
    frequency = total / beside
    return (np.median(frequency) / frequency).astype(np.float32)
