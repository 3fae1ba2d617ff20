"""Makes a core.Dataset from a source: its splits, sizes and order, and the lookup, augmentation and normalisation in a step."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Feed, PyTree
from cnnlab.data.cache import cached
from cnnlab.data.decoder import decoder_key, decoder_versions
from cnnlab.data.examine import remarks_on
from cnnlab.data.kinds import Image, Kind
from cnnlab.data.kinds.kind import Values, leaves, shape_of
from cnnlab.data.normalize import Normalisation, standard
from cnnlab.data.placement import Placement, placement
from cnnlab.data.resize import Fit, fit_images, resize, settings_of
from cnnlab.data.source import FEED, Images, LazyImages, Source, Split, notify
from cnnlab.data.stream_order import At, evaluation_feeds, shuffled_order, train_feeds
from cnnlab.data.variations.compose import NO_AUGMENTATION, Augmentation
from cnnlab.data.variations.examples import Examples
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError, UsageError, did_you_mean
from cnnlab.inputs import InputSpec
from cnnlab.progress import ProgressLine
from cnnlab.remarks import print_once
from cnnlab.values import Count, Fraction, Range

SAMPLE = 10_000
"""Number of images from which the normalisation of a streamed training split is computed."""
DECODED_AT_ONCE = 512
"""Number of images that are decoded between two updates of the progress line."""
GREY_LEVELS = 256.0
"""Divisor that brings u8 images into [0, 1) for augmentation; a power of two, so that scaling back restores each grey level."""


def build(
    source: Source,
    *,
    batch_size: Count | None,
    validation: Fraction = 0.1,
    image_size: Count | None = None,
    image_fit: Fit = resize,
    normalize: Callable[[np.ndarray], Normalisation] = standard,
    augment: Augmentation = NO_AUGMENTATION,
    order: Callable[[int, np.ndarray], At] = shuffled_order,
    resident_mib: Annotated[int, Range(0)] = 2048,
) -> Dataset:
    """Returns the data set on which an experiment trains; images.images has the same arguments as knobs, with their help.

    The validation examples are a stratified share, the same for every seed; a split with too few examples gives none.
    The normaliser is computed from the training split without that share.

    Raises UsageError for a batch larger than the training split or an impossible image_size, and DataError where the images
    differ in size and no image_size is given.
    """
    require_image(source)
    fit = settings_of(image_fit) if image_size else {"name": "none"}
    parts, resident = _loaded(source, image_size, image_fit, resident_mib * 2**20)
    examined = combined_digest(source.fingerprint, f"{image_size} {fit} {sorted(resident)}")
    remarks = [*source.remarks, *remarks_on(source, parts, examined)]
    held_out, more = _hold_out(source.name, parts, resident, validation)
    remarks += more
    sizes = {split: len(part) for split, part in parts.items()}
    batch_size = sizes["train"] if batch_size is None else batch_size
    _require_batch(source.name, batch_size, sizes["train"], len(held_out))
    streamed = {split: None if split in resident else seen(part, source.kinds) for split, part in parts.items()}
    sample, more = _sample(source.name, parts["train"].images)
    normalizers = _normalizers(source, parts["train"], normalize)
    remarks = list(dict.fromkeys([*remarks, *more]))
    print_once(remarks)
    ordered: Any = {"order": order, "epochs": "epoch" in augment.columns}
    return Dataset(
        name=source.name,
        inputs=_inputs(source, parts["train"].images, normalize(sample), fit, normalizers),
        kinds=source.kinds,
        stored={name: _stored(values) for name, values in seen(parts["train"], source.kinds).columns.items()},
        sizes=sizes,
        batch_size=batch_size,
        train=functools.partial(train_feeds, parts["train"].strata, batch_size, streamed["train"], **ordered),
        evaluate=functools.partial(_evaluate, sizes, streamed),
        resident={split: dict(seen(part, source.kinds).columns) if split in resident else {} for split, part in parts.items()},
        preparation=functools.partial(_prepare, augment, source.kinds),
        images=functools.partial(_images, parts),
        example_names=_example_names(source, parts, held_out),
        fingerprint=combined_digest(source.fingerprint, f"{sizes} {image_size} {_fit_key(fit)}{_decoder(source)}", held_out),
        remarks=tuple(remarks),
    )


def _hold_out(name: str, parts: dict[str, Split], resident: set[str], validation: float) -> tuple[np.ndarray, list[str]]:
    """Divides the training split in `parts` where there is no validation split.

    Returns the positions i32 [M] that became validation examples, and a remark where a wished validation split is empty.
    """
    if "validation" in parts:
        return np.zeros(0, np.int32), []
    held_out = parts["train"].divided(validation)[1]
    if not len(held_out):
        remark = f"{name}: no validation split: --validation={validation:g} of the training examples is none"
        return held_out, [remark] if validation else []
    parts |= _divided(parts["train"], held_out)
    resident |= {"validation"} if "train" in resident else set()
    return held_out, []


def _require_batch(name: str, batch_size: int, size: int, held_out: int) -> None:
    """Raises UsageError for a batch that is larger than the training split."""
    if batch_size > size:
        raise UsageError(
            f"0 steps per epoch: {size} examples < batch {batch_size}.\n"
            f"{name} has {size} training examples{f' ({held_out} more are held out for validation)' if held_out else ''}.\n"
            f"Give --batch_size={size} or less."
        )


def require_image(source: Source) -> None:
    """Raises DataError for a source without a column `image`."""
    if "image" not in source.kinds:
        raise DataError(
            f"{source.name} has no column `image`; it has {', '.join(source.kinds)}.\n"
            "Expected images to train on. Give another data set, or name the column of its images `image`."
        )


def seen(part: Split, kinds: Mapping[str, Kind]) -> Split:
    """Returns the columns of a split that steps see; the others, such as names, stay on the host."""
    return Split({name: values for name, values in part.columns.items() if kinds[name].on_device})


def _stored(values: Values) -> PyTree:
    """Returns the shape and type of one example's value of a column, as it is stored."""
    if isinstance(values, dict):
        return {name: jax.ShapeDtypeStruct(array.shape[1:], array.dtype) for name, array in values.items()}
    return jax.ShapeDtypeStruct(shape_of(values), values.dtype)


def _loaded(source: Source, size: int | None, fit: Fit, budget: int) -> tuple[dict[str, Split], set[str]]:
    """Returns the splits at their final image size, and the names of those in memory, which together fit in `budget` bytes."""
    parts, resident = {}, set()
    fit_key = _fit_key(settings_of(fit))
    # The training split comes first, since every step reads it.
    for split in sorted(source.splits, key=("train", "validation", "test").index):
        part = source.splits[split]
        columns = dict(fitted(part, source.kinds, source.name, size, fit).columns)
        spatial = [name for name in columns if source.kinds[name].is_spatial]
        needed = len(part) * sum(_bytes(leaf, source.name) for name in spatial for leaf in leaves(columns[name]))
        if needed <= budget:
            budget -= needed
            resident.add(split)
            for name in spatial:
                what = "" if name == "image" else f"{name} "
                key = combined_digest(source.fingerprint, split, f"{what}{size} {fit_key}")
                columns[name] = _in_memory(columns[name], f"{source.name} {split}", key)
        parts[split] = Split(columns)
    return parts, resident


def _bytes(leaf: Any, name: str) -> int:
    """Returns the bytes of one example's value in an array [N, …] or in images that are decoded on request."""
    return math.prod(_fixed_shape(leaf, name)) * leaf.dtype.itemsize


def fitted(part: Split, kinds: Mapping[str, Kind], name: str, size: int | None, fit: Fit) -> Split:
    """Returns a split whose images are brought to one size, and whose other spatial columns follow them.

    Raises DataError where another column has to follow images whose sizes are not known.
    """
    if not size:
        return part
    images, columns, settings = part.images, {}, settings_of(fit)
    followers = [column for column, kind in kinds.items() if kind.is_spatial and not isinstance(kind, Image)]
    sizes: Any = getattr(images, "sizes", None)
    if sizes is None and None not in (shape := shape_of(images)):
        sizes = np.broadcast_to(np.array(shape[:2]), (len(part), 2))
    if followers and sizes is None:
        raise DataError(
            f"the images of {name} differ in size and their sizes are not known before they are decoded, so that "
            f"{', '.join(followers)} cannot follow them.\nExpected LazyImages with `sizes` i32 [N, 2] from its source."
        )

    def place(position: int) -> Placement:
        height, width = sizes[position].tolist()
        return placement(settings, (height, width), size)

    for column, values in part.columns.items():
        is_image = isinstance(kinds[column], Image)
        columns[column] = fit_images(values, size, fit) if is_image else kinds[column].fitted(values, place)
    return Split(columns)


def _normalizers(source: Source, train: Split, normalize: Callable[[np.ndarray], Normalisation]) -> dict[str, Normalisation]:
    """Returns how the columns of images beside `image` are normalised: each by its own statistics."""
    others = [name for name, kind in source.kinds.items() if isinstance(kind, Image) and name != "image"]
    return {name: normalize(_sample(source.name, train.columns[name])[0]) for name in others}


def _inputs(
    source: Source,
    images: Images,
    normalisation: Normalisation,
    fit: Mapping[str, Any],
    others: Mapping[str, Normalisation],
) -> InputSpec:
    """Returns what a network takes that is trained on these training images."""
    height, width, channels = _fixed_shape(images)
    return InputSpec((height, width, channels), str(images.dtype), *normalisation, source.class_names, fit, others)


def _fit_key(settings: Mapping[str, Any]) -> str:
    """Returns the text of a rule in keys of the cache and in fingerprints."""
    return "" if settings["name"] == "none" else " ".join(map(str, settings.values()))


def _decoder(source: Source) -> str:
    """Returns what the decoder adds to the fingerprint of a source: nothing for images that are stored as arrays."""
    is_decoded = any(not isinstance(part.images, np.ndarray) for part in source.splits.values())
    return f" {key}" if is_decoded and (key := decoder_key()) else ""


def _divided(train: Split, held_out: np.ndarray) -> dict[str, Split]:
    """Divides a training split into the part that is trained on and the part that is held out for validation."""
    kept = np.delete(np.arange(len(train)), held_out)
    chosen = {"train": kept, "validation": held_out}
    return {split: train.at(ids) for split, ids in chosen.items()}


def _fixed_shape(values: Any, name: str = "") -> tuple[int, ...]:
    """Returns the shape of one example's value, or raises DataError where the images differ in size."""
    shape = shape_of(values)
    if None in shape:
        raise DataError(
            f"the images of {name} differ in size, and a network takes one size.\n"
            "Expected images of equal size, or a size for all: give --image_size=64, say, and --image_fit=resize or pad."
        )
    return tuple(int(side or 0) for side in shape)


def _in_memory(images: Values, name: str, key: str) -> Values:
    """Returns the values [N, …] of a column; lazily decoded ones come from the cache after the first time."""
    if isinstance(images, np.ndarray | dict):
        return images
    key = combined_digest(key, decoder_versions())
    return np.asarray(cached(f"images-{key[:24]}", lambda: {"images": _decoded(images, name)})["images"])


def _decoded(images: LazyImages, name: str) -> np.ndarray:
    """Decodes all images to u8 [N, H, W, C], and shows the progress on stderr."""
    began, progress = time.monotonic(), ProgressLine()
    notify(f"decoding the {len(images)} images of {name} (once) …")
    out = np.empty((len(images), *_fixed_shape(images)), images.dtype)
    for start in range(0, len(out), DECODED_AT_ONCE):
        stop = min(start + DECODED_AT_ONCE, len(out))
        out[start:stop] = images[np.arange(start, stop)]
        progress.show(f"[data] {name}: {stop} of {len(out)} images decoded")
    progress.show(f"[data] {name}: decoded in {time.monotonic() - began:.1f} s", last=True)
    return out


def _sample(name: str, images: Images) -> tuple[np.ndarray, list[str]]:
    """Returns the images from which the normaliser is computed, and a remark where they are an even sample of those on disk."""
    if isinstance(images, np.ndarray):
        return images, []
    chosen = np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(np.int32))
    remark = f"{name} is streamed: it is normalised by the statistics of {len(chosen)} of its {len(images)} training images"
    return images[chosen], [remark]


def _evaluate(sizes: Mapping[str, int], streamed: Mapping[str, Split | None], split: str, batch_size: int) -> Iterator[Feed]:
    """Implements core.Dataset.evaluate."""
    if split not in sizes:
        raise UsageError(f"no split {split!r}.{did_you_mean(split, list(sizes))} There are: {', '.join(sizes)}.")
    return evaluation_feeds(sizes[split], batch_size, streamed[split])


def _images(parts: Mapping[str, Split], split: str, indices: np.ndarray) -> np.ndarray:
    """Implements core.Dataset.images."""
    return parts[split].images[np.asarray(indices)]


def _example_names(
    source: Source, parts: Mapping[str, Split], held_out: np.ndarray
) -> Callable[[str, np.ndarray], list[str]] | None:
    """Returns core.Dataset.example_names of a source, whose training split is divided where some of it is held out."""
    names = {split: getattr(part.images, "names", ()) for split, part in source.splits.items()}
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
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)
        columns = _varied(augment, kinds, columns, keys, {name: feed[name] for name in augment.columns})
    mask = feed["mask"] if "mask" in feed else jnp.ones(index.shape, bool)
    for name, (subtract, divide) in inputs.others.items():
        if name in columns:
            columns[name] = (columns[name].astype(jnp.float32) - subtract) / divide
    images = (columns["image"].astype(jnp.float32) - inputs.subtract) / inputs.divide
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
