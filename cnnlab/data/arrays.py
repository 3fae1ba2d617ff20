"""The digits of scikit-learn."""

import numpy as np

from cnnlab.data.cache import cached
from cnnlab.data.source import TEST_FRACTION, Source, labelled, stratified_split
from cnnlab.errors import DataError


def digits() -> Source:
    """Opens the 1,797 handwritten digits of scikit-learn (8 x 8, 10 classes), from the UCI test set of 13 writers.

    Grey values 0..16 become u8 round(255 g / 16). The set has no split of its own; it is divided into 80 % train and 20 % test,
    stratified and always the same (Alpaydin and Kaynak, 1998, UCI Optical Recognition of Handwritten Digits).
    """
    found = cached("digits-1", _load_digits)  # importing scikit-learn takes 1 s of the 2.8 s to the first step
    images, labels = found["images"], found["labels"]
    kept, held_out = stratified_split(labels, TEST_FRACTION)
    splits = {"train": (images[kept], labels[kept]), "test": (images[held_out], labels[held_out])}
    return labelled("digits", splits, tuple(map(str, range(10))))


def _load_digits() -> dict[str, np.ndarray]:
    """Returns images u8 [1797, 8, 8, 1] and labels i32 [1797] from scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError("the digits need scikit-learn, which is not installed.\nInstall it: pip install scikit-learn") from None
    found = load_digits()  # images f64 [1797, 8, 8] in 0..16
    return {"images": np.rint(found.images * 255 / 16).astype(np.uint8)[..., None], "labels": found.target.astype(np.int32)}
