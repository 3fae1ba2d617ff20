"""Data sets that are arrays in one `.npz` file. Every array of the file is used, refused, or named in a remark."""

import dataclasses
import pathlib
import re
import zipfile

import numpy as np

from cnnlab import files
from cnnlab.data.kinds import Image, Label
from cnnlab.data.npz_arrays import Stored, as_images, fingerprint_of, in_memory, names_of, range_of, read_arrays
from cnnlab.data.source import Images, Source, Split, with_test_split
from cnnlab.data.split_names import split_named
from cnnlab.errors import DataError
from cnnlab.text import counted, listed, printable
from cnnlab.values import Count, PathText

EXPECTED = (
    "Expected arrays train_images [N, H, W] or [N, H, W, C] and train_labels [N], and likewise test_… and validation_… "
    "(or x_train, y_train, x_test, y_test), saved with numpy.savez."
)
IMAGES, LABELS = ("images", "image", "imgs", "x", "data"), ("labels", "label", "lbls", "y", "targets", "target")
"""Names of images and, at the same places, of their labels: what follows or precedes the name of a split."""
CLASS_NAMES = ("class_names", "classnames", "label_names", "labelnames", "classes")
CHANNELS = (1, 3, 4)
"""Numbers of channels by which images [N, C, H, W] are known."""


def npz(path: PathText, /, *, classes: Count | None = None) -> Source:
    """Opens a `.npz` file: `train_images`, `train_labels`, `test_images`, … or Keras's `x_train`, `y_train`, ….

    Images are u8, or floats in [0, 1]; [N, H, W] or [N, H, W, C]. Labels are integers 0 … K − 1 that all occur, or 1 … K. An
    array `class_names` of strings is used if there is one. Without test arrays the validation arrays, or else a stratified
    fifth of train, become the test split. Arrays of other names are left out with a remark.

    Args:
        classes: number of classes, where neither `class_names` nor the labels give it because some class has no example.
    """
    file = files.absolute(path)
    name = f"npz:{printable(file.stem)}"
    keys = _keys(file)
    wanted, remarks = _wanted(name, file, keys)
    arrays = read_arrays(file, [*wanted.values()], EXPECTED)
    splits, labels = {}, {}
    for split in ("train", "validation", "test"):
        if (split, "images") not in wanted:
            continue
        images_key, labels_key = wanted[split, "images"], wanted[split, "labels"]
        images, more = checked_images(f"{file}: {images_key}", arrays[images_key])
        remarks += [f"{name}: {images_key} {remark}" for remark in more]
        labels[split] = _Labels(labels_key, _integers(f"{file}: {labels_key}", in_memory(arrays[labels_key])))
        if len(images) != len(labels[split].values):
            raise DataError(
                f"{file}: {images_key} and {labels_key} differ in length: {len(images)} images but "
                f"{len(labels[split].values)} labels.\nExpected one label for each image, in the same order."
            )
        splits[split] = images
    shapes = {
        split: images.shape[1:] if isinstance(images, np.ndarray) else images.image_shape for split, images in splits.items()
    }
    if len(set(shapes.values())) > 1:
        raise DataError(
            f"{file}: the images of the splits differ in shape: {', '.join(f'{s} {v}' for s, v in shapes.items())}.\n"
            "Expected one shape [H, W, C] for all. Resize the images, or leave a split out."
        )
    names_key = wanted.get(("", "class_names"))
    given = (
        None
        if names_key is None
        else tuple(printable(str(label)) for label in in_memory(arrays[names_key]).reshape(-1).tolist())
    )
    names, numbered, more = _numbered(file, labels, given, classes)
    parts = {split: Split({"image": images, "label": numbered[split]}) for split, images in splits.items()}
    parts, carved = with_test_split(name, parts)
    remarks += [*(f"{name}: {text}" for text in more), *carved]
    kinds = {"image": Image(), "label": Label(names)}
    return Source(name, parts, kinds, fingerprint_of(file, str(classes), parts), tuple(remarks))


def unlabelled_images(file: pathlib.Path, key: str | None = None) -> tuple[np.ndarray, list[str]]:
    """Returns the images u8 or f32 [N, H, W, C] of an `.npz` file that needs no labels, and remarks on them.

    Args:
        file: path of the file.
        key: name of the array; None: the only one that is named as images are, or the only array of the file.
    """
    keys = _keys(file)
    named = [name for name in keys if (_role(name) or ("", ""))[1] == "images"]
    chosen = [name for name in keys if name == key] if key else named or keys
    if len(chosen) != 1:
        found = f"no array {key}" if key else f"{counted(len(chosen), 'array')} that could be the images"
        raise DataError(f"{file} has {found}; it has {listed(keys, 10)}.\nGive the name of one: --images={file}:NAME.")
    array = in_memory(read_arrays(file, chosen, EXPECTED)[chosen[0]])
    images, remarks = checked_images(f"{file}: {chosen[0]}", array)
    assert isinstance(images, np.ndarray)  # as the array is in memory
    return images, [f"{file}: {chosen[0]} {remark}" for remark in remarks]


def _keys(path: pathlib.Path) -> list[str]:
    """Returns the names of the arrays in a file; nothing is read yet."""
    if not path.is_file():
        folder = path.parent
        found = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        raise DataError(f"no file {path}.\nFound in {folder}: {listed(found, 10) or 'nothing'}.\n{EXPECTED}")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an .npz file (or its end is missing).\n{EXPECTED}")
    return names_of(path, EXPECTED)


def _role(key: str) -> tuple[str, str] | None:
    """Returns (split, "images" or "labels") of an array's name; split "" where it names none; None for any other name."""
    words = re.sub(r"[^a-z0-9]+", "", key.lower())
    for role, tokens in (("images", IMAGES), ("labels", LABELS)):
        for token in sorted(tokens, key=len, reverse=True):
            if words == token:
                return "", role
            # The name of the split stands before or after: test_images, y_val, Xtrain.
            for rest in (words.removesuffix(token), words.removeprefix(token)):
                if rest != words and (split := split_named(rest)) is not None:
                    return split, role
    return None


def _wanted(name: str, path: pathlib.Path, keys: list[str]) -> tuple[dict[tuple[str, str], str], list[str]]:
    """Returns {(split, role): name of the array}, complete pairs of images and labels, and remarks on the other arrays."""
    found: dict[tuple[str, str], list[str]] = {}
    others, listing = [], ", ".join(map(printable, keys)) or "none at all"
    for key in keys:
        if re.sub(r"[^a-z]+", "_", key.lower()) in CLASS_NAMES:
            found.setdefault(("", "class_names"), []).append(key)
        elif meaning := _role(key):
            found.setdefault(meaning, []).append(key)
        else:
            others.append(key)
    # Arrays that name no split, `images` and `labels`, are the training split where no other arrays are.
    if not any(split == "train" for split, _ in found):
        found |= {("train", kind): found.pop(("", kind)) for kind in ("images", "labels") if ("", kind) in found}
    others += [key for kind in ("images", "labels") for key in found.pop(("", kind), [])]
    for (split, role), named in found.items():
        if len(named) > 1:
            raise DataError(
                f"{path} has {len(named)} arrays for the {split} {role}: {listed(named)}.\nExpected one. Leave the others out."
            )
    wanted = {key: named[0] for key, named in found.items()}
    for split, kind in list(wanted):
        partner = "labels" if kind == "images" else "images"
        if split and (split, partner) not in wanted:
            missing = _partner(wanted[split, kind], kind)
            raise DataError(f"{path} has no array {missing}; it has {listing}.\n{EXPECTED}")
    if ("train", "images") not in wanted:
        raise DataError(f"{path} has no training arrays; it has {listing}.\n{EXPECTED}")
    text = f"{name}: {counted(len(others), 'array')} left out, named neither as images nor as labels of a split: "
    return wanted, [text + listed(others, 5)] if others else []


def _partner(key: str, role: str) -> str:
    """Returns the name that the labels of an array of images should have, or the images of labels: y_val for x_val."""
    ours, theirs = (IMAGES, LABELS) if role == "images" else (LABELS, IMAGES)
    for token, other in sorted(zip(ours, theirs, strict=False), key=lambda pair: -len(pair[0])):
        if re.search(rf"(?<![a-z]){token}|{token}(?![a-z])", key.lower()):
            place = key.lower().rfind(token) if key.lower().endswith(token) else key.lower().find(token)
            return f"{key[:place]}{other}{key[place + len(token) :]}"
    return f"{key}_{'labels' if role == 'images' else 'images'}"


def checked_images(name: str, images: Stored) -> tuple[Images, list[str]]:
    """Returns the images as u8 or f32 [N, H, W, C] and remarks on them, or raises DataError; large ones stay on the disk."""
    shape, remarks = images.shape, []
    if len(shape) not in (3, 4) or 0 in shape:
        raise DataError(f"{name} has shape {shape}.\nExpected [N, H, W] or [N, H, W, C], nothing of size 0.")
    is_turned = len(shape) == 4 and shape[3] not in CHANNELS and shape[1] in CHANNELS
    if is_turned:
        remarks.append(f"of shape {shape} is read as [N, C, H, W] and turned into [N, H, W, C]")
    elif len(shape) == 4 and shape[3] not in CHANNELS:
        remarks.append(f"of shape {shape} is read as [N, H, W, C], images of {shape[3]} channels")
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise DataError(
            f"{name} has type {images.dtype}.\nExpected uint8 (0..255), or floats in [0, 1].\n"
            "Convert it, for example images.astype('uint8') where the values fit."
        )
    low, high = (float(images.min()), float(images.max())) if isinstance(images, np.ndarray) else range_of(images)
    if images.dtype == np.uint8 and high <= 1:
        remarks.append("of type uint8 holds no value above 1, and 255 is white")
    if images.dtype != np.uint8 and not (np.isfinite(low) and np.isfinite(high) and low >= 0 and high <= 1):
        raise DataError(
            f"{name} has values from {low:g} to {high:g}.\nExpected finite floats in [0, 1], or uint8 in 0..255.\n"
            "Divide by the largest value, or convert to uint8."
        )
    return as_images(images, is_turned=is_turned), remarks


@dataclasses.dataclass(frozen=True)
class _Labels:
    """The labels of a split as they are stored."""

    key: str
    values: np.ndarray
    """Integers [N] of any type."""


def _integers(name: str, labels: np.ndarray) -> np.ndarray:
    """Returns the labels as integers [N] of the stored type, or raises DataError."""
    if labels.ndim == 2 and labels.shape[1] == 1:  # Keras's CIFAR has [N, 1]
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        kind, fix = f"shape {labels.shape} and type {labels.dtype}", "For one-hot labels use labels.argmax(1)."
        if labels.ndim == 1:
            fix = "Number the classes: names, numbers = numpy.unique(labels, return_inverse=True); save names as class_names."
        raise DataError(f"{name} has {kind}.\nExpected one integer for each example, [N].\n{fix}")
    return labels


def _numbered(
    path: pathlib.Path, labels: dict[str, _Labels], given: tuple[str, ...] | None, classes: int | None
) -> tuple[tuple[str, ...], dict[str, np.ndarray], list[str]]:
    """Returns (class names, {split: labels i32 [N] in [0, K)}, remarks), or raises DataError. Nothing of size K is made.

    Args:
        path: the file, for errors.
        labels: labels by split, as stored.
        given: names of the classes in the file; None: it has none.
        classes: number of classes that the user gives; None: it is the number of different labels.
    """
    found = np.unique(np.concatenate([np.unique(part.values) for part in labels.values()]))
    low, high, count = int(found[0]), int(found[-1]), len(found)
    number = len(given) if given is not None else classes if classes is not None else int(np.sum(found >= 0))
    # Labels that count from 1 are common in MATLAB, and the names of the classes keep their numbers.
    first = 1 if given is None and classes is None and low == 1 and high == count else 0
    fix = "Number the classes from 0, without a gap: numpy.unique(labels, return_inverse=True)[1]."
    for split, part in labels.items():
        wrong = np.flatnonzero((part.values < first) | (part.values >= number + first))
        if not len(wrong):
            continue
        place = f"{path}, split {split}: example {wrong[0]} has label {part.values[wrong[0]]}, outside [0, {number})"
        why = f"{part.key} has {counted(len(wrong), 'such example')}; the labels are {count} numbers from {low} to {high}"
        more = "" if given is not None or low < 0 else " Or give --dataset.classes, if classes without an example are meant."
        raise DataError(f"{place}.\n{why}, and labels are numbers of classes, 0 to {number - 1}.\n{fix}{more}")
    names = given or tuple(str(label) for label in range(first, number + first))
    remarks = [f"labels 1 to {high} become classes 0 to {high - 1}, which keep their numbers as names"] if first else []
    return names, {split: (part.values.astype(np.int64) - first).astype(np.int32) for split, part in labels.items()}, remarks
