"""The features of a TFDS set as columns: images, a class, boxes around objects and semantic masks, read without TensorFlow.

Letters in shapes: N examples of a split, M objects of an image at most, H W space.
"""

import dataclasses
import functools
import io
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlab.data.decode import MAX_PIXELS, BadImage, opened_bytes
from cnnlab.data.kinds import Boxes, Image, Kind, Label, Mask
from cnnlab.data.kinds.boxes import beyond, sound_boxes
from cnnlab.data.kinds.kind import Values
from cnnlab.errors import DataError
from cnnlab.text import counted, listed

READ_AT_ONCE = 2048
AS_PREPARED = (
    "Expected the files as TFDS prepared them. Restore them from a copy, or delete the folder and prepare the set again."
)
MASK_NAMES = ("mask", "segment", "annotation", "trimap")
"""A feature of images with one channel is a semantic mask where one of these is part of its name."""


@dataclasses.dataclass(frozen=True)
class Features:
    """Which features of a set are read, by their names."""

    image: str
    label: str | None
    objects: str | None
    """The sequence of objects."""
    box: str | None
    """The feature of a box within it."""
    box_label: str | None
    """The feature of the class of a box within it; None: all objects are of one class."""
    masks: tuple[str, ...]
    left_out: tuple[str, ...]
    """Classes, boxes and images that are not read."""


def find_features(tensorflow_datasets: Any, name: str, info: Any) -> Features:
    """Returns the features of a set that become columns, or raises DataError where it has no images."""
    kinds, features = tensorflow_datasets.features, info.features
    images = [
        key for key in features if isinstance(features[key], kinds.Image) and np.dtype(features[key].np_dtype) == np.uint8
    ]
    masks = tuple(key for key in images if features[key].shape[-1] == 1 and any(part in key.lower() for part in MASK_NAMES))
    labels = [key for key in features if isinstance(features[key], kinds.ClassLabel)]
    supervised = info.supervised_keys if info.supervised_keys and len(info.supervised_keys) == 2 else (None, None)
    pictures = [key for key in images if key not in masks]
    if not pictures:
        raise DataError(
            f"tfds:{name} has no images of 8 bits: its features are {', '.join(features)}.\n"
            "Expected an Image feature of type uint8. Choose another set, or write it as folders of images."
        )
    image = str(supervised[0]) if supervised[0] in pictures else "image" if "image" in pictures else pictures[0]
    label = supervised[1] if supervised[1] in labels else labels[0] if len(labels) == 1 else None
    sequences = {key: inner for key in features if (inner := _boxes_of(kinds, features[key]))}
    objects = next(iter(sequences), None)
    box, box_label = sequences[objects] if objects else (None, None)
    used = {image, label, *masks, objects}
    left_out = tuple(key for key in (*images, *labels, *sequences) if key not in used)
    return Features(image, label, objects, box, box_label, masks, left_out)


def _boxes_of(kinds: Any, feature: Any) -> tuple[str, str | None] | None:
    """Returns the names of the box and of its class within a sequence of objects; None for any other feature."""
    inner = getattr(feature, "feature", None)
    if not isinstance(feature, kinds.Sequence) or not isinstance(inner, kinds.FeaturesDict):
        return None
    box = next((key for key in inner if isinstance(inner[key], kinds.BBoxFeature)), None)
    return (box, next((key for key in inner if isinstance(inner[key], kinds.ClassLabel)), None)) if box else None


def read_columns(builder: Any, features: Features, split: str) -> dict[str, np.ndarray]:
    """Returns what is read of every example of a split as the set is opened: small arrays, no image.

    They are `label` i32 [N]; `sizes` i32 [N, 2], (H, W); `corners` f32 [N, M, 4], `box_label` i32 [N, M] and `valid` bool
    [N, M] of boxes; and for each mask `MASK-counts` i32 [N, 256], the number of pixels of each value.
    """
    labels: list[int] = []
    sizes: list[tuple[int, int]] = []
    objects: list[Any] = []
    counts: dict[str, list[np.ndarray]] = {mask: [] for mask in features.masks}
    for number, record in enumerate(_records(builder, features, split)):
        size = _size(builder, split, number, features.image, record[features.image])
        if features.label:
            labels.append(int(record[features.label]))
        if features.objects:
            objects.append(record[features.objects])
        if features.objects or features.masks:
            sizes.append(size)
        for mask in features.masks:
            if (other := _size(builder, split, number, mask, record[mask])) != size:
                raise DataError(
                    f"{place_of(builder, split, number)}: {mask} is {other[1]} x {other[0]} pixels, and the image {size[1]} x "
                    f"{size[0]}.\nExpected a value for each pixel of the image. Choose another set."
                )
            # [H, W] -> [256]
            counts[mask].append(np.bincount(_decoded(record[mask]).reshape(-1), minlength=256).astype(np.int32))
    found: dict[str, np.ndarray] = {"label": np.array(labels, np.int32)} if features.label else {}
    if sizes:
        found["sizes"] = np.array(sizes, np.int32)
    if features.objects:
        found |= _stacked(features, objects, found["sizes"])
    return found | {f"{mask}-counts": np.stack(each) for mask, each in counts.items()}


def _records(builder: Any, features: Features, split: str) -> Iterator[Mapping[str, Any]]:
    """Yields the examples of a split, with encoded images."""
    read = reading(builder, split, undecoded(image_features(builder)))
    size = builder.info.splits[split].num_examples
    for start in range(0, size, READ_AT_ONCE):
        yield from read(range(start, min(start + READ_AT_ONCE, size)))


def reading(builder: Any, split: str, decoders: Mapping[str, Any]) -> Callable[[Sequence[int]], Sequence[Mapping[str, Any]]]:
    """Returns a function of positions that reads examples of a split; the files are opened at its first call.

    It raises DataError, with the file and the first example that cannot be read, whatever the libraries below raise.
    """
    source = functools.cache(lambda: builder.as_data_source(split, decoders=decoders))

    def read(positions: Sequence[int]) -> Sequence[Mapping[str, Any]]:
        try:
            found: Sequence[Mapping[str, Any]] = source().__getitems__(positions)
        except Exception as error:  # of array_record, TFDS and Pillow, none of which has one class for a damaged file
            if len(positions) > 1:
                for position in positions:
                    read([position])
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise DataError(f"{place_of(builder, split, positions[0])} cannot be read: {reason}.\n{AS_PREPARED}") from error
        return found

    return read


def image_features(builder: Any) -> list[str]:
    """Returns the names of a set's features of images."""
    import tensorflow_datasets

    features = builder.info.features
    return [name for name in features if isinstance(features[name], tensorflow_datasets.features.Image)]


def undecoded(names: Sequence[str]) -> dict[str, Any]:
    """Returns the decoders that leave some features of images encoded."""
    import tensorflow_datasets

    return {name: tensorflow_datasets.decode.SkipDecoding() for name in names}


def first_line(error: Exception) -> str:
    """Returns the first line of the text of an error, not more than 200 characters of it."""
    return str(error).strip().partition("\n")[0][:200]


def place_of(builder: Any, split: str, number: int | None = None) -> str:
    """Returns the words for a split, or an example in it, with its file where all of the split is in one."""
    folder = pathlib.Path(str(builder.data_path))
    found = sorted(folder.glob(f"*-{split}.*"))
    where = found[0] if len(found) == 1 else folder
    return f"{where}, split {split}{'' if number is None else f', example {number}'}"


def _size(builder: Any, split: str, number: int, feature: str, encoded: bytes | np.ndarray) -> tuple[int, int]:
    """Returns (H, W) of an encoded image, of which only the header is read; raises DataError where it is none or too large."""
    if isinstance(encoded, np.ndarray):  # a builder that keeps its images as arrays
        return encoded.shape[0], encoded.shape[1]
    try:
        with opened_bytes(encoded, MAX_PIXELS) as picture:
            return picture.height, picture.width
    except BadImage as error:
        raise DataError(
            f"{place_of(builder, split, number)}: {feature} cannot be used: {str(error).replace(' (--max_pixels)', '')}.\n"
            "Expected an image as TFDS prepared it. Prepare the set again, or choose another one."
        ) from None


def _decoded(encoded: bytes | np.ndarray) -> np.ndarray:
    if isinstance(encoded, np.ndarray):
        return encoded
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(encoded)) as picture:
        return np.asarray(picture)


def _stacked(features: Features, objects: Sequence[Any], sizes: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the boxes of N examples as arrays; a box without an area is not valid.

    TFDS has (y1, x1, y2, x2) as shares of the image's sides.
    """
    most = max((len(one[features.box]) for one in objects), default=0)
    corners = np.zeros((len(objects), max(most, 1), 4), np.float32)
    label, valid = np.zeros(corners.shape[:2], np.int32), np.zeros(corners.shape[:2], bool)
    for number, (one, (height, width)) in enumerate(zip(objects, sizes.tolist(), strict=True)):
        boxes = np.asarray(one[features.box], np.float32).reshape(-1, 4)  # list of [4] -> [m, 4]
        count = len(boxes)
        sides = np.array([width, height, width, height], np.float32)
        corners[number, :count] = boxes[:, [1, 0, 3, 2]] * sides
        label[number, :count] = 0 if features.box_label is None else np.asarray(one[features.box_label], np.int32)
        valid[number, :count] = True
    # Where a box is not sound its corners stay, for the count of `remarks_of`; those of one that is not finite become -1.
    placed = {"corners": corners, "label": label, "valid": valid}
    clipped = valid & np.isfinite(corners).all(axis=-1) & beyond(corners, sizes)
    sound, _ = sound_boxes(placed, sizes, "boxes", policy="clip")
    kept = np.where(sound["valid"][..., None], sound["corners"], np.nan_to_num(corners, nan=-1.0, posinf=-1.0, neginf=-1.0))
    more = {"clipped": np.array(int((clipped & sound["valid"]).sum()))} if clipped.any() else {}
    return {"corners": kept, "box_label": label, "valid": sound["valid"], **more}


def kinds_of(info: Any, features: Features, found: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Kind]:
    """Returns the kind of every column.

    Args:
        info: description of the set.
        features: its features that are read.
        found: {split: what `read_columns` returned}.
    """
    kinds: dict[str, Kind] = {"image": Image()}
    if features.label:
        kinds["label"] = Label(tuple(info.features[features.label].names))
    if features.objects:
        names = ("object",)
        if features.box_label:
            names = tuple(info.features[features.objects].feature[features.box_label].names)
        kinds["boxes"] = Boxes(names)
    for mask in features.masks:
        kinds[mask] = Mask(tuple(map(str, values_of(mask, found))))
    return kinds


def values_of(mask: str, found: Mapping[str, Mapping[str, np.ndarray]]) -> range:
    """Returns the values of a mask that are classes: from 0, or from 1 where no pixel is 0, to the largest but 255.

    Args:
        mask: the feature.
        found: {split: what `read_columns` returned}.
    """
    counts = np.sum([arrays[f"{mask}-counts"].sum(axis=0, dtype=np.int64) for arrays in found.values()], axis=0)  # [256]
    used = np.flatnonzero(counts[: Mask().ignore])
    return range(min(1, int(used[0])), int(used[-1]) + 1) if len(used) else range(1)


def padded_boxes(found: Mapping[str, np.ndarray], most: int) -> Values:
    """Returns the boxes of a split with places for `most` objects, so that all splits have as many."""
    missing = most - found["valid"].shape[1]
    more = {
        name: ((0, 0), (0, missing), *([(0, 0)] if name == "corners" else [])) for name in ("corners", "box_label", "valid")
    }
    arrays = {name: np.pad(found[name], widths) for name, widths in more.items()}  # [N, m, …] -> [N, M, …]
    return {"corners": arrays["corners"], "label": arrays["box_label"], "valid": arrays["valid"]}


def remarks_of(name: str, features: Features, found: Mapping[str, Mapping[str, np.ndarray]]) -> list[str]:
    """Returns remarks on features that are not read, and on boxes that are not used."""
    remarks = []
    if features.left_out:
        remarks.append(f"tfds:{name}: {counted(len(features.left_out), 'feature')} not read: {listed(features.left_out, 5)}")
    if features.objects:
        empty = sum(int(np.sum(~arrays["valid"] & arrays["corners"].any(axis=2))) for arrays in found.values())
        remarks += [f"tfds:{name}: {counted(empty, 'box', 'boxes')} without an area not used"] if empty else []
        cut = sum(int(arrays["clipped"]) for arrays in found.values() if "clipped" in arrays)
        remarks += [f"tfds:{name}: {counted(cut, 'box', 'boxes')} beyond their image clipped"] if cut else []
    return remarks
