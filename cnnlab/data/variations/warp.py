"""Examples that are rotated, scaled, shifted or sheared, in one bilinear interpolation."""

import jax
import jax.numpy as jnp

from cnnlab.core import Array
from cnnlab.data.motion import Edge, Motion, affine, quarter_turn
from cnnlab.data.variations.examples import Examples, moved
from cnnlab.values import Fraction, NonNegative

Matrix = tuple[Array, Array, Array, Array]
"""The four numbers of motion.affine."""


def rotation(degrees: Array, scale: Array | float = 1.0) -> Matrix:
    """Returns the matrix that rotates counter-clockwise and enlarges by `scale`."""
    radians = jnp.deg2rad(degrees)
    cosine, sine = jnp.cos(radians) / scale, jnp.sin(radians) / scale
    return cosine, sine, -sine, cosine


def shearing(right: Array, down: Array) -> Matrix:
    """Returns the matrix by which a pixel shows the place `right` of its row to the right and `down` of its column below it."""
    one = jnp.ones_like(right)
    return one, down, right, one


def rotate(examples: Examples, keys: Array, *, degrees: NonNegative = 15.0, edge: Edge = "zeros") -> Examples:
    """Rotates about the middle, uniformly to either side.

    Args:
        degrees: largest rotation.
        edge: what lies outside of the image: zeros, the image reflected, or its mean.
    """

    def draw(key: Array, size: tuple[int, int]) -> Motion:
        return affine(size, rotation(_symmetric(key) * degrees), jnp.zeros(2), edge)

    return moved(examples, keys, draw)


def quarter_turns(examples: Examples, keys: Array) -> Examples:
    """Turns by 0, 90, 180 or 270 degrees with equal probability; where images are not square, by 0 or 180."""

    def draw(key: Array, size: tuple[int, int]) -> Motion:
        turns = jax.random.randint(key, (), 0, 4) if size[0] == size[1] else 2 * jax.random.randint(key, (), 0, 2)
        return quarter_turn(size, turns)

    return moved(examples, keys, draw)


def scale(examples: Examples, keys: Array, *, zoom: Fraction = 0.2, edge: Edge = "zeros") -> Examples:
    """Enlarges or reduces about the middle, uniformly and symmetrically.

    Args:
        zoom: largest change of scale, as a fraction: 0.1 is 0.9 to 1.1 times the size.
        edge: what lies outside of the image: zeros, the image reflected, or its mean.
    """

    def draw(key: Array, size: tuple[int, int]) -> Motion:
        return affine(size, rotation(jnp.zeros(()), 1.0 + _symmetric(key) * zoom), jnp.zeros(2), edge)

    return moved(examples, keys, draw)


def translate(examples: Examples, keys: Array, *, share: Fraction = 0.1, edge: Edge = "zeros") -> Examples:
    """Shifts by a share of the image's height and width, uniformly, with bilinear interpolation.

    Args:
        share: largest shift along each axis, as a share of the image.
        edge: what lies outside of the image: zeros, the image reflected, or its mean.
    """

    def draw(key: Array, size: tuple[int, int]) -> Motion:
        offset = _symmetric(key, 2) * share * jnp.asarray(size, jnp.float32)
        return affine(size, rotation(jnp.zeros(())), offset, edge)

    return moved(examples, keys, draw)


def shear(examples: Examples, keys: Array, *, degrees: NonNegative = 10.0, edge: Edge = "zeros") -> Examples:
    """Shears along both axes, uniformly to either side.

    Args:
        degrees: largest angle by which an axis leans.
        edge: what lies outside of the image: zeros, the image reflected, or its mean.
    """

    def draw(key: Array, size: tuple[int, int]) -> Motion:
        right, down = jnp.tan(jnp.deg2rad(_symmetric(key, 2) * degrees))
        return affine(size, shearing(right, down), jnp.zeros(2), edge)

    return moved(examples, keys, draw)


def shift(examples: Examples, keys: Array, *, pixels: NonNegative = 2.0) -> Examples:
    """Shifts by fractions of pixels, uniformly in a square, with bilinear interpolation. For whole pixels use `pad_crop`.

    Args:
        pixels: largest shift along each axis.
    """
    return shift_rotate(examples, keys, degrees=0.0, pixels=pixels, zoom=0.0)


def shift_rotate(
    examples: Examples, keys: Array, *, degrees: NonNegative = 10.0, pixels: NonNegative = 2.0, zoom: Fraction = 0.1
) -> Examples:
    """Rotates, scales and shifts at random, each uniformly and symmetrically, in one bilinear interpolation.

    Args:
        degrees: largest rotation to either side.
        pixels: largest shift along each axis.
        zoom: largest change of scale, as a fraction: 0.1 is 0.9 to 1.1 times the size.
    """

    def draw(key: Array, size: tuple[int, int]) -> Motion:
        drawn = _symmetric(key, 4)
        return affine(size, rotation(drawn[0] * degrees, 1.0 + drawn[1] * zoom), drawn[2:] * pixels)

    return moved(examples, keys, draw)


def _symmetric(key: Array, count: int | None = None) -> Array:
    """Draws uniformly from [-1, 1): f32 [], or f32 [count]."""
    return jax.random.uniform(key, () if count is None else (count,), minval=-1.0, maxval=1.0)
