"""Normalisers, which compute from the stored training images what is subtracted and what is divided by.

Each is `f(images: u8 or f32 [N, H, W, C]) -> (subtract, divide)`, f32 [1, H or 1, W or 1, C or 1] in the unit in which the
images are stored (0..255 for u8; floats as they are); the network sees (image - subtract) / divide.
"""

import numpy as np

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


def unit_value(dtype: np.dtype) -> float:
    """Returns the stored value that stands for 1: 255 for u8, else 1."""
    return 255.0 if dtype == np.uint8 else 1.0


def _constant(value: float) -> np.ndarray:
    return np.full((1, 1, 1, 1), value, np.float32)


NORMALIZERS = {"none": no_normalization, "raw": raw, "standard": standard, "per_pixel": per_pixel}
"""Normalisers by name, for `Choice[NORMALIZERS]`."""
