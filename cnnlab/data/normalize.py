"""Normalisers, which give what is subtracted and what is divided by: from the stored training images, or fixed numbers.

Each is `f(images: u8 or f32 [N, H, W, C]) -> (subtract, divide)`, f32 [1, H or 1, W or 1, C or 1] in the unit in which the
images are stored (0..255 for u8; floats as they are); the network sees (image - subtract) / divide.
"""

import functools

import numpy as np

from cnnlab.errors import UsageError
from cnnlab.inputs import unit_value

Normalisation = tuple[np.ndarray, np.ndarray]
CHUNK = 4096


def no_normalization(images: np.ndarray) -> Normalisation:
    """Scales to [0, 1]: u8 is divided by 255; floats stay as they are."""
    return _constant(0), _constant(unit_value(images.dtype))


def raw(images: np.ndarray) -> Normalisation:
    """Keeps the stored values: whole numbers 0..255 for u8, exactly; floats as they are."""
    return _constant(0), _constant(1)


def standard(images: np.ndarray) -> Normalisation:
    """Gives each channel mean 0 and standard deviation 1 over the training split; a constant channel is only centred."""
    total = squares = np.zeros(images.shape[1:])
    exact = np.uint32 if images.dtype == np.uint8 else np.float64  # 4096 * 255² < 2³²
    for start in range(0, len(images), CHUNK):
        pixels = images[start : start + CHUNK].astype(exact)
        total, squares = total + pixels.sum(axis=0, dtype=exact), squares + np.square(pixels).sum(axis=0, dtype=exact)
    mean = total.mean(axis=(0, 1)) / len(images)  # [H, W, C] -> [C]
    deviation = np.sqrt(np.maximum(squares.mean(axis=(0, 1)) / len(images) - mean**2, 0))
    deviation = np.where(deviation > 1e-6 * unit_value(images.dtype), deviation, unit_value(images.dtype))
    # [C] -> [1, 1, 1, C]
    return mean.astype(np.float32)[None, None, None], deviation.astype(np.float32)[None, None, None]


def per_pixel(images: np.ndarray) -> Normalisation:
    """Subtracts the mean image of the training split, on the scale of [0, 1] (Krizhevsky et al., 2012, section 2)."""
    return images.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32), _constant(unit_value(images.dtype))


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


NORMALIZERS = {
    "none": no_normalization,
    "raw": raw,
    "standard": standard,
    "per_pixel": per_pixel,
    "fixed": fixed,
    "half": half,
    "imagenet": imagenet,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "mnist": mnist,
}
"""Normalisers by name, for `Choice[NORMALIZERS]`."""
