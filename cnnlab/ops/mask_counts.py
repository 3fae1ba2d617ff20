"""Counts of predicted and true masks, on the device: confusion matrices of images, and the bands along the borders of classes.

Letters in shapes: B batch, H W space, K classes.
"""

import jax
import jax.numpy as jnp
from jax import lax


def confusion(labels: jax.Array, predictions: jax.Array, valid: jax.Array, classes: int) -> jax.Array:
    """Returns the number of valid pixels of each image by class and predicted class, f32 [B, K, K], exact below 2^24 pixels.

    Args:
        labels: i32 [B, H, W] in [0, K) where they are valid.
        predictions: i32 [B, H, W] in [0, K).
        valid: bool [B, H, W].
        classes: K.
    """
    size = len(labels)
    truth = one_hot(labels, valid, classes).reshape(size, -1, classes)  # [B, H, W, K] -> [B, H·W, K]
    guess = one_hot(predictions, valid, classes).reshape(size, -1, classes)
    counts = jnp.matmul(truth.astype(jnp.float32).swapaxes(1, 2), guess.astype(jnp.float32), precision=lax.Precision.HIGHEST)
    return counts  # [B, K, H·W] x [B, H·W, K] -> [B, K, K]


def one_hot(labels: jax.Array, valid: jax.Array, classes: int) -> jax.Array:
    """Returns whether each pixel is of each class, bool [B, H, W, K]; pixels that are not valid are of none."""
    return (labels[..., None] == jnp.arange(classes, dtype=labels.dtype).reshape(1, 1, 1, -1)) & valid[..., None]


def inner_border(masks: jax.Array, reach: int) -> jax.Array:
    """Returns the pixels of masks bool [B, H, W, K] at most `reach` pixels from the outside (Cheng et al. 2021, section 4).

    The distance is the larger of that down and that to the right, and beyond the image is outside: Boundary IoU, arXiv
    2103.16562, whose code erodes with a 3x3 square `reach` times.
    """
    return masks & ~eroded(masks, reach)


def eroded(masks: jax.Array, reach: int) -> jax.Array:
    """Returns the pixels of masks bool [B, H, W, K] whose square of side 2 · reach + 1 is all inside the mask."""
    for axis in (1, 2):
        masks = ~_spread(~masks, reach, axis, beyond=True)
    return masks


def near_border(labels: jax.Array, valid: jax.Array, reach: int) -> jax.Array:
    """Returns the valid pixels at most `reach` pixels from one of another class, bool [B, H, W]: a trimap's band.

    Krähenbühl and Koltun 2011, arXiv 1210.5644, section 5. Borders to pixels that are not valid do not count.
    """
    band = jnp.zeros(labels.shape, bool)
    for axis in (1, 2):
        step = _differs(labels, valid, axis)
        band |= step
    for axis in (1, 2):
        band = _spread(band, max(reach - 1, 0), axis, beyond=False)
    return band & valid


def _differs(labels: jax.Array, valid: jax.Array, axis: int) -> jax.Array:
    """Returns the valid pixels next to a valid one of another class along an axis, bool [B, H, W]."""
    length = labels.shape[axis]
    before, after = (lax.slice_in_dim(labels, start, start + length - 1, axis=axis) for start in (0, 1))
    both = lax.slice_in_dim(valid, 0, length - 1, axis=axis) & lax.slice_in_dim(valid, 1, length, axis=axis)
    change = (before != after) & both
    pad = [(0, 0)] * labels.ndim
    first = jnp.pad(change, [(0, 1) if place == axis else each for place, each in enumerate(pad)])
    second = jnp.pad(change, [(1, 0) if place == axis else each for place, each in enumerate(pad)])
    return first | second


def _spread(marks: jax.Array, reach: int, axis: int, *, beyond: bool) -> jax.Array:
    """Returns the pixels at most `reach` from a mark along an axis; `beyond`: whether all beyond the image is marked.

    The shifts double, so 2 ⌈log2(reach + 1)⌉ of them suffice.
    """
    for direction in (1, -1):
        left = reach
        width = 1
        while left > 0:
            shift = min(width, left)
            marks |= _shifted(marks, direction * shift, axis, beyond=beyond)
            left, width = left - shift, 2 * width
    return marks


def _shifted(marks: jax.Array, by: int, axis: int, *, beyond: bool) -> jax.Array:
    """Returns marks moved by some pixels along an axis; what comes in from outside is `beyond`."""
    length = marks.shape[axis]
    by = max(-length, min(length, by))
    pad = [(0, 0)] * marks.ndim
    pad[axis] = (max(by, 0), max(-by, 0))
    padded = jnp.pad(marks, pad, constant_values=beyond)
    return lax.slice_in_dim(padded, max(-by, 0), max(-by, 0) + length, axis=axis)
