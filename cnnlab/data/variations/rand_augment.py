"""RandAugment and TrivialAugment: operations drawn for each example from fourteen geometric and photometric ones.

The operations and the ranges of their magnitudes are those of torchvision's RandAugment and TrivialAugmentWide.
"""

import dataclasses
import math
from typing import Annotated

import jax
import jax.numpy as jnp

from cnnlab.core import Array
from cnnlab.data.motion import Edge, Motion, affine
from cnnlab.data.variations.colour import blended, grey, mean_grey
from cnnlab.data.variations.examples import Examples, moved
from cnnlab.data.variations.tones import equalized, posterized, smoothed, solarized, with_full_contrast
from cnnlab.data.variations.warp import rotation, shearing
from cnnlab.values import Count, Range

OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "saturation",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
"""What is drawn from; colours of images without three channels stay as they are."""
BLENDS = ("brightness", "saturation", "contrast", "sharpness")
LARGEST = 30
"""The largest magnitude: there are 31 steps from 0."""


@dataclasses.dataclass(frozen=True)
class Ranges:
    """The operations at the largest magnitude."""

    shear: float
    """Pixels by which a pixel moves for each of its distance from the middle."""
    translate: float
    """Share of the side by which an image is shifted, but for `pixels`."""
    pixels: float
    """The largest shift in pixels."""
    degrees: float
    blend: float
    """Change of the factor of brightness, saturation, contrast and sharpness."""
    bits: int
    """Bits of eight that posterising takes away."""


USUAL = Ranges(shear=0.3, translate=150 / 331, pixels=math.inf, degrees=30.0, blend=0.9, bits=4)
"""Cubuk et al. 2019, arXiv:1909.13719, section 3.1, with the ranges of AutoAugment (arXiv:1805.09501, table 6)."""
WIDE = Ranges(shear=0.99, translate=1.0, pixels=32.0, degrees=135.0, blend=0.99, bits=6)
"""Müller and Hutter 2021, arXiv:2103.10158, table 1, "Wide"."""


def rand_augment(
    examples: Examples,
    keys: Array,
    *,
    operations: Count = 2,
    magnitude: Annotated[float, Range(0, LARGEST)] = 9.0,
    edge: Edge = "zeros",
) -> Examples:
    """Does some random operations one after another, all at one magnitude (Cubuk et al. 2019, arXiv:1909.13719, section 3).

    Args:
        operations: number of operations.
        magnitude: strength of all of them, of 30.
        edge: what lies outside of a moved image: zeros, the image reflected, or its mean.
    """
    for number in range(operations):
        draws = jax.vmap(lambda key, number=number: _draws(jax.random.fold_in(key, number)))(keys)
        strength = jnp.full(len(keys), magnitude, jnp.float32) / LARGEST
        examples = _operated(examples, (*draws[:2], strength), USUAL, edge)
    return examples


def trivial_augment(examples: Examples, keys: Array, *, edge: Edge = "zeros") -> Examples:
    """Does one random operation at a random magnitude (Müller and Hutter 2021, arXiv:2103.10158, algorithm 1, wide ranges).

    Args:
        edge: what lies outside of a moved image: zeros, the image reflected, or its mean.
    """
    return _operated(examples, jax.vmap(_draws)(keys), WIDE, edge)


def _draws(key: Array) -> tuple[Array, Array, Array]:
    """Draws (number of the operation i32 [], sign f32 [], strength f32 [] in 31 steps from 0 to 1)."""
    counts = (len(OPERATIONS), 2, LARGEST + 1)
    numbers = [jax.random.randint(jax.random.fold_in(key, i), (), 0, count) for i, count in enumerate(counts)]
    return numbers[0], 2.0 * numbers[1].astype(jnp.float32) - 1.0, numbers[2].astype(jnp.float32) / LARGEST


def _operated(examples: Examples, draws: tuple[Array, Array, Array], ranges: Ranges, edge: Edge) -> Examples:
    """Does one operation on each example: the geometric ones are one warp, the photometric ones one choice of images."""
    examples = moved(examples, draws, lambda one, size: _motion(one, size, ranges, edge))
    toned = {
        name: jax.vmap(lambda image, one: _toned(image, one, ranges))(images, draws) for name, images in examples.images.items()
    }
    return examples.with_columns(toned)


def _motion(draws: tuple[Array, Array, Array], size: tuple[int, int], ranges: Ranges, edge: Edge) -> Motion:
    """Returns the motion of a geometric operation; that of any other leaves everything in place."""
    number, sign, strength = draws
    signed = sign * strength

    def only(name: str, value: Array) -> Array:
        return jnp.where(number == OPERATIONS.index(name), value, 0.0)

    sheared = shearing(*(only(f"shear_{axis}", signed * ranges.shear) for axis in "xy"))
    turned = rotation(only("rotate", signed * ranges.degrees))
    is_turn = number == OPERATIONS.index("rotate")
    a, b, c, d = (jnp.where(is_turn, one, other) for one, other in zip(turned, sheared, strict=True))
    shifts = [min(ranges.translate * side, ranges.pixels) for side in size]
    offset = [only(f"translate_{axis}", signed * most) for axis, most in zip("yx", shifts, strict=True)]
    return affine(size, (a, b, c, d), jnp.stack(offset), edge)


def _toned(image: Array, draws: tuple[Array, Array, Array], ranges: Ranges) -> Array:
    """Returns an image [H, W, C] after a photometric operation, and the same image after any other."""
    number, sign, strength = draws
    # The four blends differ in the image that the example is blended with, so that one blend serves them all.
    others = dict(zip(BLENDS, (jnp.zeros_like(image), grey(image), mean_grey(image), smoothed(image)), strict=True))
    other = image
    for name, blend in others.items():
        other = jnp.where(number == OPERATIONS.index(name), blend, other)
    bits = 8.0 - jnp.round(strength * ranges.bits)
    results = {
        "posterize": posterized(image, bits),
        "solarize": solarized(image, 1.0 - strength),
        "autocontrast": with_full_contrast(image),
        "equalize": equalized(image),
        **dict.fromkeys(BLENDS, blended(image, other, 1.0 + sign * strength * ranges.blend)),
    }
    for name, result in results.items():
        image = jnp.where(number == OPERATIONS.index(name), result, image)
    return image
