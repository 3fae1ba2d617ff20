"""Data sets that are arrays: scikit-learn's digits, and `.npz` files of your own."""

import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from cnnlab.data.cache import cached
from cnnlab.data.source import TEST_FRACTION, Source, Split, digest_splits, stratified_split, with_test_split
from cnnlab.errors import DataError
from cnnlab.values import Count, PathText

NPZ_NAMES = {"train": "x_train", "test": "x_test", "validation": "x_validation"}
EXPECTED = (
    "Expected arrays train_images [N, H, W] or [N, H, W, C] and train_labels [N], and likewise test_… and validation_… "
    "(or x_train, y_train, x_test, y_test), saved with numpy.savez."
)


def digits() -> Source:
    """Opens the 1,797 handwritten digits of scikit-learn (8 x 8, 10 classes), from the UCI test set of 13 writers.

    Grey values 0..16 become u8 round(255 g / 16). The set has no split of its own; it is divided into 80 % train and 20 % test,
    stratified and always the same (Alpaydin and Kaynak, 1998, UCI Optical Recognition of Handwritten Digits).
    """
    found = cached("digits-1", _load_digits)  # importing scikit-learn takes 1 s of the 2.8 s to the first step
    images, labels = found["images"], found["labels"]
    kept, held_out = stratified_split(labels, TEST_FRACTION)
    splits = {"train": Split(images[kept], labels[kept]), "test": Split(images[held_out], labels[held_out])}
    return Source("digits", splits, tuple(map(str, range(10))), digest_splits("digits", splits))


def _load_digits() -> dict[str, np.ndarray]:
    """Returns images u8 [1797, 8, 8, 1] and labels i32 [1797] from scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError("the digits need scikit-learn, which is not installed.\nInstall it: pip install scikit-learn") from None
    found = load_digits()  # images f64 [1797, 8, 8] in 0..16
    return {"images": np.rint(found.images * 255 / 16).astype(np.uint8)[..., None], "labels": found.target.astype(np.int32)}


def npz(path: PathText, /, *, classes: Count | None = None) -> Source:
    """Opens a `.npz` file: `train_images`, `train_labels`, `test_images`, … or Keras's `x_train`, `y_train`, ….

    Images are u8, or floats in [0, 1]; [N, H, W] or [N, H, W, C]. Labels are integers from 0. An array `class_names` of strings
    is used if there is one. Without test arrays a stratified fifth of train becomes the test split.

    Args:
        classes: number of classes, where neither `class_names` nor the highest label gives it.
    """
    arrays = _read(pathlib.Path(path))
    splits: dict[str, Split] = {}
    for split, keras in NPZ_NAMES.items():
        # Both naming schemes may be mixed in one file: `train_images` with Keras's `x_test`.
        images_key, labels_key = (
            (f"{split}_images", f"{split}_labels") if f"{split}_images" in arrays else (keras, keras.replace("x", "y", 1))
        )
        if images_key in arrays and labels_key in arrays:
            splits[split] = Split(
                _checked_images(path, images_key, arrays[images_key]), _checked_labels(path, labels_key, arrays[labels_key])
            )
        elif images_key in arrays or labels_key in arrays:
            missing = labels_key if images_key in arrays else images_key
            raise DataError(f"{path} has no array {missing}; it has {', '.join(arrays)}.\n{EXPECTED}")
    if "train" not in splits:
        raise DataError(f"{path} has no training arrays; it has {', '.join(arrays) or 'none at all'}.\n{EXPECTED}")
    shapes = {split: part.images.shape[1:] for split, part in splits.items() if isinstance(part.images, np.ndarray)}
    if len(set(shapes.values())) > 1:
        raise DataError(
            f"{path}: the images of the splits differ in shape: {', '.join(f'{s} {v}' for s, v in shapes.items())}.\n"
            "Expected one shape [H, W, C] for all. Resize the images, or leave a split out."
        )
    highest = max(int(part.labels.max(initial=-1)) for part in splits.values())
    if "class_names" in arrays:
        names = tuple(map(str, arrays["class_names"].tolist()))
    else:
        names = tuple(map(str, range(highest + 1 if classes is None else classes)))
    name = f"npz:{pathlib.Path(path).stem}"
    splits = with_test_split(name, splits)
    return Source(name, splits, names, digest_splits("npz", splits))


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads all arrays of the file; pickled objects are refused, never loaded."""
    if not path.is_file():
        folder = path.parent
        found = sorted(entry.name for entry in folder.iterdir())[:10] if folder.is_dir() else []
        raise DataError(f"no file {path}.\nFound in {folder}: {', '.join(found) or 'nothing'}.\n{EXPECTED}")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an .npz file (or its end is missing).\n{EXPECTED}")
    arrays: dict[str, Any] = {}
    key = ""
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                arrays[key] = file[key]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: array {key or '?'} cannot be read: {reason}\n{EXPECTED}\nSave plain arrays again.") from None
    return {key: value for key, value in arrays.items() if isinstance(value, np.ndarray)}


def _checked_images(path: str, key: str, images: np.ndarray) -> np.ndarray:
    """Returns the images as u8 or f32 [N, H, W, C], or raises DataError."""
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise DataError(f"{path}: {key} has shape {images.shape}.\nExpected [N, H, W] or [N, H, W, C], nothing of size 0.")
    images = images[..., None] if images.ndim == 3 else images  # [N, H, W] -> [N, H, W, 1]
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(
            f"{path}: {key} has type {images.dtype}.\nExpected uint8 (0..255), or floats in [0, 1].\n"
            "Convert it, for example images.astype('uint8') where the values fit."
        )
    low, high = float(images.min()), float(images.max())
    if not (np.isfinite(low) and np.isfinite(high) and low >= 0 and high <= 1):
        raise DataError(
            f"{path}: {key} has values from {low:g} to {high:g}.\nExpected finite floats in [0, 1], or uint8 in 0..255.\n"
            "Divide by the largest value, or convert to uint8."
        )
    return images.astype(np.float32)


def _checked_labels(path: str, key: str, labels: np.ndarray) -> np.ndarray:
    """Returns the labels as i32 [N], or raises DataError; `Source` checks that they are classes."""
    if labels.ndim == 2 and labels.shape[1] == 1:  # Keras's CIFAR has [N, 1]
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{path}: {key} has shape {labels.shape} and type {labels.dtype}.\nExpected one integer for each example, [N].\n"
            "For one-hot labels use labels.argmax(1)."
        )
    # Clipped, not wrapped around: a label beyond i32 stays outside the range of classes, and is refused there.
    return np.clip(labels, -1, np.iinfo(np.int32).max).astype(np.int32)
