"""Normalisers, which give what is subtracted and what is divided by: from the stored training images, or fixed numbers.

Each is `f(images: u8 or f32 [N, H, W, C]) -> (subtract, divide)`, f32 [1, H or 1, W or 1, C or 1] in the unit in which the
images are stored (0..255 for u8; floats as they are); the network sees (image - subtract) / divide. Those that whiten return a
third array f32 [D, D] for the D = H · W · C numbers of an image, by which the result is multiplied.
"""

import functools
import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from cnnlab.errors import UsageError
from cnnlab.inputs import unit_value
from cnnlab.ops.whitening import whitening_matrix
from cnnlab.values import Positive, below_partials

Normalisation = tuple[np.ndarray, ...]
MOST_WHITENED = 3072
"""Largest number of numbers of an image that is whitened, those of 32x32x3: their matrix takes 36 MiB."""
AT_ONCE = 1024
"""Number of images whose covariance is added at once."""
BLOCK = 4096
"""Number of images whose sum is taken before it is added to the others."""
VALUES = 2**20
"""Number of values that are widened at once."""


class Rows(Protocol):
    """Images u8 or f32 [N, H, W, C]: an array, or what reads them from the disk a few at a time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""

    @property
    def dtype(self) -> np.dtype:
        """The type of the values."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...


def no_normalization(images: np.ndarray) -> Normalisation:
    """Scales to [0, 1]: u8 is divided by 255; floats stay as they are."""
    return _constant(0), _constant(unit_value(images.dtype))


def raw(images: np.ndarray) -> Normalisation:
    """Keeps the stored values: whole numbers 0..255 for u8, exactly; floats as they are."""
    return _constant(0), _constant(1)


def standard(images: Rows) -> Normalisation:
    """Gives each channel mean 0 and standard deviation 1 over the training split; a constant channel is only centred."""
    total, squares = _sums(images)
    mean = total.mean(axis=(0, 1)) / len(images)  # [H, W, C] -> [C]
    deviation = np.sqrt(np.maximum(squares.mean(axis=(0, 1)) / len(images) - mean**2, 0))
    deviation = np.where(deviation > 1e-6 * unit_value(images.dtype), deviation, unit_value(images.dtype))
    # [C] -> [1, 1, 1, C]
    return mean.astype(np.float32)[None, None, None], deviation.astype(np.float32)[None, None, None]


def per_pixel(images: Rows) -> Normalisation:
    """Subtracts the mean image of the training split, on the scale of [0, 1] (Krizhevsky et al., 2012, section 2)."""
    if isinstance(images, np.ndarray):
        mean = images.mean(axis=0, dtype=np.float64, keepdims=True)
    else:
        mean = (_sums(images, len(images))[0] / len(images))[None]  # [H, W, C] -> [1, H, W, C]
    return mean.astype(np.float32), _constant(unit_value(images.dtype))


def pca(images: Rows, *, epsilon: Positive = 1e-3) -> Normalisation:
    """Whitens by principal components: numbers without correlation and of variance 1 over the training split.

    An image becomes its components, the one of the largest variance first, row by row in the place of its pixels: neighbours
    have nothing in common any more, so it is for networks of fully connected layers.

    Args:
        epsilon: constant added to the variance of each component, of pixels in [0, 1]; components far below it stay small.
    """
    return _whitening(images, "pca", epsilon, rotate_back=False)


def zca(images: Rows, *, epsilon: Positive = 1e-3) -> Normalisation:
    """Whitens as pca does, rotated back into an image: each pixel without what its neighbours say about it.

    Krizhevsky 2009, Learning multiple layers of features from tiny images, appendix A.

    Args:
        epsilon: constant added to the variance of each component, of pixels in [0, 1]; components far below it stay small.
    """
    return _whitening(images, "zca", epsilon, rotate_back=True)


def _whitening(images: Rows, name: str, epsilon: float, *, rotate_back: bool) -> Normalisation:
    """Returns the mean image, the unit, and the matrix that whitens; raises UsageError for images that are too large."""
    shape, unit = images.shape[1:], unit_value(images.dtype)
    size = math.prod(shape)
    if size > MOST_WHITENED:
        raise UsageError(
            f"--normalize={name}: images of {'x'.join(map(str, shape))} take a matrix of {size:,} x {size:,} numbers.\n"
            f"Expected at most {MOST_WHITENED:,} numbers an image, as in 32x32x3. Give a smaller --image_size, or take "
            "--normalize=standard or per_pixel."
        )
    mean = _sums(images, AT_ONCE)[0] / len(images)  # [H, W, C]
    covariance = np.zeros((size, size))
    for start in range(0, len(images), AT_ONCE):
        stop = min(start + AT_ONCE, len(images))
        rows = ((images[start:stop] - mean) / unit).reshape(stop - start, size)  # [B, H, W, C] -> [B, D]
        covariance += rows.T @ rows
    matrix = whitening_matrix(covariance / len(images), epsilon=epsilon, rotate_back=rotate_back)
    return mean[None].astype(np.float32), _constant(unit), matrix


def _sums(images: Rows, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sums of the images and of their squares, f64 [H, W, C] each.

    Few images at a time are widened. The sums of floats are those of whole blocks, added image by image, bit by bit.

    Args:
        images: the images.
        block: number of images whose sum is taken before it is added to the others.
    """
    shape = images.shape[1:]
    total, squares = np.zeros(shape), np.zeros(shape)
    exact = (np.uint32 if block <= BLOCK else np.uint64) if images.dtype == np.uint8 else np.float64  # 4096 * 255² < 2³²
    # NumPy adds rows one after another where they are longer than this, and else maybe in pairs.
    at_once = max(1, min(block, VALUES // math.prod(shape)))
    for start in range(0, len(images), block):
        stop = min(start + block, len(images))
        first = np.zeros((1, *shape), exact)
        parts = [first, first]
        for place in range(start, stop, at_once):
            pixels = images[place : min(place + at_once, stop)].astype(exact)
            for number, values in enumerate((pixels, np.square(pixels))):
                # [1 + B, H, W, C] -> [1, H, W, C]
                parts[number] = np.concatenate([parts[number], values]).sum(axis=0, dtype=exact, keepdims=True)
        total, squares = total + parts[0][0], squares + parts[1][0]
    return total, squares


def fixed(images: np.ndarray, *, mean: tuple[float, ...] = (0.5,), std: tuple[float, ...] = (0.5,)) -> Normalisation:
    """Uses given numbers, whatever the data: those with which a network was trained elsewhere.

    Args:
        mean: what is subtracted on the scale of [0, 1], one number or one for each channel.
        std: what is divided by on the scale of [0, 1], one number or one for each channel.
    """
    channels, unit = images.shape[-1], np.float32(unit_value(images.dtype))
    for name, numbers in (("mean", mean), ("std", std)):
        if len(numbers) not in (1, channels):
            raise UsageError(
                f"--normalize.{name} has {len(numbers)} numbers and the images have {channels} "
                f"channel{'s' * (channels > 1)}.\n"
                "Expected one number, or one for each channel. Give as many, or another --normalize."
            )
    if min(std) <= 0:
        raise UsageError(f"--normalize.std={','.join(map(str, std))}: expected numbers above 0, by which pixels are divided.")
    # [1 or C] -> [1, 1, 1, 1 or C]
    return unit * np.asarray(mean, np.float32)[None, None, None], unit * np.asarray(std, np.float32)[None, None, None]


imagenet = functools.partial(fixed, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Mean and standard deviation of the training images of ImageNet: the weights of torchvision and most of timm."""

half = functools.partial(fixed, mean=(0.5,), std=(0.5,))
"""Scales to [-1, 1]: the Inception and EfficientNet-Lite weights of timm, MobileNet and Inception of keras."""

cifar10 = functools.partial(fixed, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
"""Mean and standard deviation of the training images of CIFAR-10, over all pixels."""

cifar100 = functools.partial(fixed, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762))
"""Mean and standard deviation of the training images of CIFAR-100, over all pixels."""

mnist = functools.partial(fixed, mean=(0.1307,), std=(0.3081,))
"""Mean and standard deviation of the training images of MNIST."""


def _constant(value: float) -> np.ndarray:
    return np.full((1, 1, 1, 1), value, np.float32)


NORMALIZERS: dict[str, Callable[..., Normalisation]] = {
    "none": no_normalization,
    "raw": raw,
    "standard": standard,
    "per_pixel": per_pixel,
    "pca": pca,
    "zca": zca,
    "fixed": fixed,
    "half": half,
    "imagenet": imagenet,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "mnist": mnist,
}
"""Normalisers by name, for `Choice[NORMALIZERS]`."""


def needs_images(normalize: Callable[..., Normalisation]) -> bool:
    """Returns whether a normaliser is computed from the images, and not from their type and channels alone."""
    return below_partials(normalize) not in (no_normalization, raw, fixed)


def takes_rows(normalize: Callable[..., Normalisation]) -> bool:
    """Returns whether a normaliser reads the images a few at a time; others get them as one array."""
    return below_partials(normalize) in (standard, per_pixel, pca, zca)
