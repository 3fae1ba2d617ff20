"""The knob `data` of a recipe: labelled images from any data set, in batches for training.

    def recipe(*, data: Choice[PIPELINES] = "images", …) -> Experiment:
        dataset = data()

A recipe that decides some of these knobs itself takes UnitImages or WholeSplit and passes them: `data(normalize=…)`.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from cnnlab.core import Dataset
from cnnlab.data import DATASETS
from cnnlab.data.arrays import digits
from cnnlab.data.folds import Folds, folds_of
from cnnlab.data.negative_controls import permute_pixels, shuffle_drawn_labels, shuffle_labels, shuffle_pixels
from cnnlab.data.normalize import NORMALIZERS, standard
from cnnlab.data.pipeline import build
from cnnlab.data.proposals import Proposer, no_proposals, with_proposals
from cnnlab.data.resize import ALL_FITS, resize
from cnnlab.data.select import select
from cnnlab.data.source import Source, require_source
from cnnlab.data.stream_order import ORDERS, shuffled_order
from cnnlab.data.variations import AUGMENTS
from cnnlab.data.variations.compose import Augmentation, require_variation
from cnnlab.errors import UsageError
from cnnlab.values import OF_RUN, Choice, Choices, Count, DrawSeed, Fraction, Range

Shuffle = Literal["none", "labels", "pixels", "same_pixels"]
"""What a negative control permutes in the data (negative_controls.py)."""


def images(
    shuffle: Shuffle = "none",
    proposals: Proposer = no_proposals,
    *,
    dataset: Choice[DATASETS] = digits,
    batch_size: Count | None = 64,
    accumulate: Count = 1,
    validation: Fraction = 0.1,
    split_seed: DrawSeed = None,
    folds: Annotated[int, Range(2)] | None = None,
    fold: Annotated[int, Range(0)] | Literal["run"] = "run",
    stratify: bool = True,
    image_size: Count | None = None,
    image_fit: Choice[ALL_FITS] = resize,
    normalize: Choice[NORMALIZERS] = standard,
    augment: Choices[AUGMENTS] = (),
    only_classes: tuple[int, ...] = (),
    examples_per_class: Count | None = None,
    examples_seed: DrawSeed = None,
    order: Choice[ORDERS] = shuffled_order,
    resident_mib: Annotated[int, Range(0)] = 2048,
) -> Dataset:
    """Labelled images of one size, with a training, a test and, given enough examples, a validation split.

    Args:
        shuffle: what a control permutes: the training labels, the pixels of every image, or all images alike. It is no knob.
        proposals: what proposes boxes that may hold an object, which become a column; a knob of recipes that learn from them.
        dataset: data set; digits comes with scikit-learn; tfds:NAME, folder:PATH, csv:PATH, npz:PATH read others.
        batch_size: number of examples in a step, over all devices together; none: the whole training split in every step.
        accumulate: equal parts in which a step takes its batch in turn, to save memory; batch statistics are of a part alone.
        validation: share of the training split that is held out, where the data set has no validation split of its own.
        split_seed: seed by which that share is drawn: a number, or run, by the seed of each run; none: always the same share.
        folds: number of parts of the training split, one of which is held out in place of that share; test is not measured.
        fold: number of that part, from 0; run: the run of seed s holds out part s mod folds, so --seeds=FOLDS trains them all.
        stratify: whether every fold has its share of every class. A column of groups keeps these whole in any case.
        image_size: height and width in pixels to which images are brought; none: images keep their size.
        image_fit: how images are brought to that size: resize (bilinear), pad with zeros (LeCun's 28 to 32), a centre crop; or
            canvas, without --image_size: they keep unequal sizes, in the corner of a canvas as large as the largest one.
        normalize: scaling of the inputs by statistics of the training split, or by fixed numbers such as those of ImageNet.
        augment: random variations of the training images, on the device, in this order.
        only_classes: numbers of the classes that are kept, counted from 0; empty: all.
        examples_per_class: number of training examples of each class; none: all.
        examples_seed: seed by which these are drawn: a number, or run, by the seed of each run; none: always the same ones.
        order: order in which training shows the examples: shuffled in every epoch, sequential, or balanced over the classes.
        resident_mib: memory in MiB for splits that stay on the device, the training split first; the others are streamed.
    """
    cross = folds_of(folds, fold, stratify=stratify, split_seed=split_seed, examples_seed=examples_seed)
    opened = _opened(dataset, shuffle)
    chosen = select(opened, classes=only_classes, examples_per_class=examples_per_class, seed=examples_seed)
    # Where the seed of a run chooses its examples, their labels are shuffled when it has chosen.
    is_late = shuffle == "labels" and (OF_RUN in (examples_seed, split_seed) or (cross is not None and cross.of_run))
    shares: Any = {"validation": validation, "split_seed": split_seed, "folds": cross}
    source = _controlled(with_proposals(chosen, proposals), "none" if is_late else shuffle, **shares)
    shares["examples_of_run"] = examples_per_class if examples_seed == OF_RUN else None
    batches: Any = {"batch_size": batch_size, "accumulate": accumulate, "order": order, "resident_mib": resident_mib}
    form: Any = {"image_size": image_size, "image_fit": image_fit, "normalize": normalize}
    built = build(source, augment=Augmentation(tuple(augment)), **shares, **batches, **form)
    for one in augment:
        require_variation(one, built.image_shape)
    return shuffle_drawn_labels(built) if is_late else built


def _opened(dataset: Callable[[], Source], shuffle: Shuffle) -> Source:
    """Returns the source of a data set; raises UsageError where a control permutes labels and it has none."""
    source = require_source(dataset(), "data.dataset")
    if shuffle == "labels":
        require_labels(source, "--control=shuffle_labels")
    return source


def _controlled(source: Source, shuffle: Shuffle, *, validation: Fraction, split_seed: DrawSeed, folds: Folds | None) -> Source:
    """Returns the source with what a negative control permutes, and without a test split where training is divided in folds."""
    source = source if folds is None else folds.without_test(source)
    if shuffle == "pixels":
        return shuffle_pixels(source)
    if shuffle == "same_pixels":
        return permute_pixels(source)
    if shuffle == "labels":
        return shuffle_labels(source, validation=validation, split_seed=split_seed, folds=folds)
    return source


def require_labels(data: Dataset | Source, what: str) -> None:
    """Raises UsageError for a data set without a column `label`.

    Args:
        data: the data set, or its source.
        what: what needs the labels, such as a flag.
    """
    columns = data.kinds if isinstance(data, Source) else data.stored
    if "label" not in columns:
        raise UsageError(
            f"{what} needs the class of every image, and {data.name} has no column `label` (its columns: "
            f"{', '.join(columns)}).\nGive a data set with classes, or leave it out."
        )


def require_validation(data: Dataset, early_stopping: int | None) -> Dataset:
    """Returns the data set; raises UsageError where early stopping has no validation split to go by."""
    if early_stopping and "validation" not in data.sizes:
        raise UsageError(
            f"--early_stopping={early_stopping}: {data.name} has no validation split by which training could be stopped.\n"
            "Hold out a share of the training examples with --validation=0.1, or leave it out."
        )
    return data


PIPELINES = {"images": images}
"""Pipelines by name, for the knob `data`."""

UnitImages: Any = Choice(PIPELINES, supplied=("normalize",))
"""The knob `data` of a recipe whose model takes pixels in [0, 1]; the recipe passes `normalize=no_normalization`."""

WholeSplit: Any = Choice(
    PIPELINES,
    supplied=(
        *("batch_size", "accumulate", "validation", "split_seed", "folds", "fold", "stratify"),
        *("normalize", "augment", "order"),
    ),
)
"""The knob `data` of a recipe that takes all training images at once, as they are; the recipe passes the batch size, the share
that is held out, the normalisation and the variations."""
