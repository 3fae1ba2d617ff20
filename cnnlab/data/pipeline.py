"""Makes a core.Dataset from a source: its splits, sizes and order, and the lookup, augmentation and normalisation in a step."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Feed, PyTree, Rows
from cnnlab.data.canvas import on_canvas, without_padding
from cnnlab.data.decoder import decoder_key, decoder_versions
from cnnlab.data.draws import Draws, draws_of
from cnnlab.data.examine import remarks_on
from cnnlab.data.folds import Folds
from cnnlab.data.kinds import Image, Kind
from cnnlab.data.kinds.extent import EXTENT
from cnnlab.data.kinds.kind import each_leaf, shape_of
from cnnlab.data.kinds.recorded import as_json
from cnnlab.data.loading import at_final_size, code_of, fit_key, fixed_shape, in_memory
from cnnlab.data.normalize import Normalisation, standard
from cnnlab.data.resize import Fit, resize, settings_of
from cnnlab.data.source import FEED, Images, LazyImages, Source, Split
from cnnlab.data.statistics import normalisation_of
from cnnlab.data.stream_order import At, evaluation_feeds, require_split, shuffled_order, train_feeds
from cnnlab.data.variations.compose import NO_AUGMENTATION, Augmentation
from cnnlab.data.variations.examples import Examples
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError, UsageError
from cnnlab.inputs import InputSpec
from cnnlab.ops.keys import of_each
from cnnlab.ops.whitening import normalised
from cnnlab.remarks import print_once
from cnnlab.values import Count, DrawSeed, Fraction, Range

GREY_LEVELS = 256.0
"""Divisor that brings u8 images into [0, 1) for augmentation; a power of two, so that scaling back restores each grey level."""


def build(
    source: Source,
    *,
    batch_size: Count | None,
    accumulate: Count = 1,
    validation: Fraction = 0.1,
    split_seed: DrawSeed = None,
    folds: Folds | None = None,
    examples_of_run: Count | None = None,
    image_size: Count | None = None,
    image_fit: Fit = resize,
    normalize: Callable[[np.ndarray], Normalisation] = standard,
    augment: Augmentation = NO_AUGMENTATION,
    order: Callable[[int, np.ndarray], At] = shuffled_order,
    resident_mib: Annotated[int, Range(0)] = 2048,
) -> Dataset:
    """Returns the data set on which an experiment trains; images.images has these arguments as knobs, with their help.

    The validation examples are a stratified share; a split with too few examples gives none. The normaliser is computed without
    that share; where runs draw examples (draws.py), from all of training. `examples_of_run` of each class are drawn; None: all.
    Raises UsageError for a batch or an image_size that is impossible, and DataError where images differ in size without one.
    """
    source, image_fit, image_size = on_canvas(require_image(source), image_fit, image_size)
    fit = settings_of(image_fit) if image_size else {"name": "none"}
    parts, resident = at_final_size(source, image_size, image_fit, resident_mib * 2**20)
    found = remarks_on(source, parts, resident, combined_digest(source.fingerprint, f"{image_size} {fit} {sorted(resident)}"))
    shares: Any = {"validation": validation, "split_seed": split_seed, "folds": folds}
    draws, held_out, more = _hold_out(source, parts, resident, examples_of_run, **shares)
    sizes = (stored_sizes := {split: len(part) for split, part in parts.items()}) | (draws.sizes() if draws else {})
    batch_size = _batch_size(source, batch_size, accumulate, sizes)
    # What is stored does not depend on the draws of runs, so that data sets with other draws share it.
    of_stored = combined_digest(source.fingerprint, f"{stored_sizes} {image_size} {fit_key(fit)}{_decoder(source)}", held_out)
    _decode(source.name, parts, resident, of_stored, code_of(image_fit))
    _share_training(parts, resident, sizes)
    shown = {split: seen(part, source.kinds) for split, part in parts.items()}
    streamed = {split: None if split in resident else part for split, part in shown.items()}
    normalizers, others = _normalisations(source.name, parts["train"], source.kinds, normalize, of_stored + code_of(image_fit))
    print_once(remarks := list(dict.fromkeys([*source.remarks, *found, *more, *others])))
    ordered: Any = {"order": order, "epochs": "epoch" in augment.columns, "draws": draws}
    return Dataset(
        name=source.name,
        inputs=_inputs(source, parts["train"].images, fit, normalizers),
        kinds=source.kinds,
        recorded_kinds=as_json(source.kinds),
        stored={name: each_leaf(_stored, values) for name, values in shown["train"].columns.items()},
        sizes=sizes,
        batch_size=batch_size,
        accumulate=accumulate,
        class_counts=_class_counts(parts["train"], len(source.class_names), examples_of_run),
        train=functools.partial(train_feeds, parts["train"].strata, batch_size, streamed["train"], **ordered),
        evaluate=functools.partial(_evaluate, sizes, streamed, draws),
        resident={split: dict(part.columns) if split in resident else {} for split, part in shown.items()},
        preparation=functools.partial(_prepare, augment, source.kinds),
        images=functools.partial(_images, parts),
        example_names=_example_names(source, parts, held_out),
        fingerprint=combined_digest(of_stored, draws.key()) if draws else of_stored,
        remarks=tuple(remarks),
        draws=draws,
        order=order,
    )


def _class_counts(train: Split, classes: int, examples_of_run: int | None) -> tuple[int, ...]:
    """Implements core.Dataset.class_counts; where runs draw a share of the examples, each has the same share of every class."""
    if examples_of_run:
        return (examples_of_run,) * classes
    labels = np.asarray(train.columns.get("label", ()))
    known = labels[labels >= 0] if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer) else ()
    return tuple(np.bincount(known, minlength=classes).tolist()) if len(known) else ()


def _hold_out(
    source: Source,
    parts: dict[str, Split],
    resident: set[str],
    examples_of_run: int | None,
    *,
    validation: float,
    split_seed: DrawSeed,
    folds: Folds | None,
) -> tuple[Draws | None, np.ndarray, list[str]]:
    """Divides the training split in `parts` where there is no validation split, unless the seed of a run draws its examples.

    Returns the draws of the runs, the positions i32 [M] that became validation examples, and remarks.
    """
    draws = draws_of(source, examples_per_class=examples_of_run, validation=validation, split_seed=split_seed, folds=folds)
    if draws is not None or "validation" in parts:
        return draws, np.zeros(0, np.int32), draws.remarks(source.name) if draws else []
    if folds is None:
        held_out = parts["train"].divided(validation, split_seed if isinstance(split_seed, int) else None)[1]
    else:
        held_out = folds.divided(parts["train"])[1]
    if not len(held_out):
        remark = f"{source.name}: no validation split: --validation={validation:g} of the training examples is none"
        return None, held_out, [remark] if validation else []
    remarks = [] if folds is None else [folds.remark(source.name, len(parts["train"]))]
    parts |= _divided(parts["train"], held_out)
    resident |= {"validation"} if "train" in resident else set()
    return None, held_out, remarks


def _batch_size(source: Source, wanted: int | None, accumulate: int, sizes: Mapping[str, int]) -> int:
    """Returns the batch size, by default the whole training split.

    Raises UsageError for one that is larger than that, or cannot be divided into `accumulate` equal parts.
    """
    size = sizes["train"]
    if wanted is None or wanted <= size:
        check_accumulate(wanted or size, accumulate)
        return wanted or size
    held_out = 0 if "validation" in source.splits else sizes.get("validation", 0)
    more = f" ({held_out} more are held out for validation)" if held_out else ""
    raise UsageError(
        f"0 steps per epoch: {size} examples < batch {wanted}.\n"
        f"{source.name} has {size} training examples{more}.\nGive --batch_size={size} or less."
    )


def check_accumulate(batch_size: int, accumulate: int) -> None:
    """Raises UsageError where a batch cannot be taken in that many equal parts; names the nearest values that fit."""
    if batch_size % accumulate == 0:
        return
    fits = [parts for parts in range(1, batch_size + 1) if batch_size % parts == 0]
    nearest = [max(parts for parts in fits if parts <= accumulate), *(parts for parts in fits if parts > accumulate)][:2]
    below, above = batch_size // accumulate * accumulate, -(-batch_size // accumulate) * accumulate
    raise UsageError(
        f"--accumulate={accumulate}: a batch of {batch_size} has no {accumulate} equal parts.\n"
        f"Take --accumulate={' or '.join(map(str, nearest))}, or --batch_size={f'{below} or {above}' if below else above}."
    )


def _decode(name: str, parts: dict[str, Split], resident: Set[str], fingerprint: str, rule: str) -> None:
    """Replaces the splits in `parts` that stay on the device by the same in memory."""
    for split in resident:
        key = combined_digest(fingerprint, split, decoder_versions(), rule)
        parts[split] = in_memory(parts[split], f"{name} {split}", key)


def _share_training(parts: dict[str, Split], resident: set[str], sizes: Mapping[str, int]) -> None:
    """Adds to `parts` the validation split of which runs draw their examples: it is the training split."""
    if "validation" in sizes and "validation" not in parts:
        parts["validation"] = parts["train"]
        resident |= {"validation"} if "train" in resident else set()


def require_image(source: Source) -> Source:
    """Returns the source; raises DataError for one without a column `image`."""
    if "image" not in source.kinds:
        raise DataError(
            f"{source.name} has no column `image`; it has {', '.join(source.kinds)}.\n"
            "Expected images to train on. Give another data set, or name the column of its images `image`."
        )
    return source


def seen(part: Split, kinds: Mapping[str, Kind]) -> Split:
    """Returns the columns of a split that steps see; the others, such as names, stay on the host."""
    return Split({name: values for name, values in part.columns.items() if kinds[name].on_device})


def _stored(values: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape and type of one example's value in an array [N, …] or in images that are decoded on request."""
    return jax.ShapeDtypeStruct(shape_of(values), values.dtype)


def _normalisations(
    name: str, train: Split, kinds: Mapping[str, Kind], normalize: Callable[[np.ndarray], Normalisation], key: str
) -> tuple[dict[str, Normalisation], list[str]]:
    """Returns how the columns of images are normalised, each by its own statistics, and remarks on those of samples."""
    found, remarks = {}, []
    for column, kind in kinds.items():
        if isinstance(kind, Image):
            shape = fixed_shape(train.columns[column])
            own_key = combined_digest(key, column, decoder_versions())
            found[column], more = normalisation_of(name, train.columns[column], shape, normalize, own_key)
            remarks += more
            if EXTENT in train.columns and normalize is standard:
                found[column] = without_padding(found[column], train.columns[EXTENT], shape)
    return found, remarks


def _inputs(source: Source, images: Images, fit: Mapping[str, Any], normalisations: Mapping[str, Normalisation]) -> InputSpec:
    """Returns what a network takes that is trained on these training images."""
    height, width, channels = fixed_shape(images)
    subtract, divide, *whiten = normalisations["image"]
    others = {column: (numbers[0], numbers[1]) for column, numbers in normalisations.items() if column != "image"}
    if whiten and others:
        raise UsageError(
            f"--normalize whitens the images of one column, and {source.name} has {' and '.join(normalisations)}.\n"
            "Take --normalize=standard or per_pixel."
        )
    shape, dtype = (height, width, channels), str(images.dtype)
    return InputSpec(shape, dtype, subtract, divide, source.class_names, fit, others, *whiten)


def _decoder(source: Source) -> str:
    """Returns what the decoder adds to the fingerprint of a source: nothing for images that are stored as arrays."""
    is_decoded = any(isinstance(part.images, LazyImages) and not part.images.is_array for part in source.splits.values())
    return f" {key}" if is_decoded and (key := decoder_key()) else ""


def _divided(train: Split, held_out: np.ndarray) -> dict[str, Split]:
    """Divides a training split into the part that is trained on and the part that is held out for validation."""
    kept = np.delete(np.arange(len(train)), held_out)
    chosen = {"train": kept, "validation": held_out}
    return {split: train.at(ids) for split, ids in chosen.items()}


def _evaluate(
    sizes: Mapping[str, int],
    streamed: Mapping[str, Split | None],
    draws: Draws | None,
    split: str,
    batch_size: int,
    *,
    seed: int = 0,
    rows: Rows | None = None,
) -> Iterator[Feed]:
    """Implements core.Dataset.evaluate; a seed's own examples are those that it draws."""
    require_split(split, sizes)
    chosen = draws(split, seed) if draws and split in draws.sizes() else None
    size = sizes[split] if chosen is None else len(chosen)
    return evaluation_feeds(size, batch_size, streamed[split], chosen, rows=rows)


def _images(parts: Mapping[str, Split], split: str, indices: np.ndarray) -> np.ndarray:
    """Implements core.Dataset.images."""
    return parts[split].images[np.asarray(indices)]


def _example_names(
    source: Source, parts: Mapping[str, Split], held_out: np.ndarray
) -> Callable[[str, np.ndarray], list[str]] | None:
    """Returns core.Dataset.example_names of a source, whose training split is divided where some of it is held out."""
    names = {split: getattr(part.images, "names", ()) for split, part in source.splits.items()}
    names |= {"validation": names["train"]} if "validation" in parts and "validation" not in names else {}
    if len(held_out) and (whole := names["train"]):
        chosen = {"train": np.delete(np.arange(len(whole)), held_out), "validation": held_out}
        names |= {split: [whole[i] for i in ids] for split, ids in chosen.items()}
    return functools.partial(_names, names) if all(names.get(split) for split in parts) else None


def _names(names: Mapping[str, Sequence[str]], split: str, indices: np.ndarray) -> list[str]:
    """Implements core.Dataset.example_names."""
    return [names[split][position] for position in np.asarray(indices).tolist()]


def _prepare(
    augment: Augmentation,
    kinds: Mapping[str, Kind],
    inputs: InputSpec,
    resident: PyTree,
    feed: Mapping[str, Any],
    key: Array | None,
) -> Batch:
    """Implements core.Dataset.preparation: looks up the examples, augments each with a key of its own, and normalises them."""
    index = feed["index"]
    # [N, …] at index [B] -> [B, …]; a streamed feed brings its columns with it
    columns = (
        jax.tree.map(lambda array: jnp.take(array, index, axis=0, mode="clip"), dict(resident))
        if resident and "image" not in feed
        else {name: feed[name] for name in feed if name not in FEED}
    )
    if key is not None and augment.variations:
        # The key depends on the example's index in the split, not on the device count nor on its place in the batch.
        keys = of_each(key, index)
        columns = _varied(augment, kinds, columns, keys, {name: feed[name] for name in augment.columns})
    mask = feed["mask"] if "mask" in feed else jnp.ones(index.shape, bool)
    for name, (subtract, divide) in inputs.others.items():
        if name in columns:
            columns[name] = (columns[name].astype(jnp.float32) - subtract) / divide
    images = normalised(inputs, columns["image"].astype(jnp.float32))
    return {**columns, "image": images, "index": index, "mask": mask}


def _varied(
    augment: Augmentation, kinds: Mapping[str, Kind], columns: dict[str, Any], keys: Array, feed: Mapping[str, Array]
) -> dict[str, Any]:
    """Returns the columns of a batch varied; images are in [0, 1] meanwhile, and come back in the unit of the stored ones."""
    units = {
        name: GREY_LEVELS if columns[name].dtype == jnp.uint8 else 1.0 for name in columns if isinstance(kinds[name], Image)
    }
    scaled = {name: columns[name].astype(jnp.float32) / unit for name, unit in units.items()}
    varied = augment(Examples({**columns, **scaled}, kinds), keys, **feed).columns
    return {**varied, **{name: varied[name] * unit for name, unit in units.items()}}
