"""Canvases: modules whose only parameters are pictures, in the basis in which they are trained.

A canvas is called as `canvas(index i32 [B]) -> logits of the pictures f32 [B, H, W, C]`; the picture is their sigmoid.

Letters in shapes: N pictures of the canvas, B batch, H W space, C channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ops.precision import at_least_f32
from cnnlab.values import NonNegative

COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
"""Square root of the covariance of the colours of photos, [RGB, decorrelated], as in the authors' code of Olah, Mordvintsev and
Schubert 2017 (Feature Visualization, Distill), from ImageNet: lightness, blue against yellow, green against magenta."""
LOWERED = 4.0
"""Divisor of pictures in the Fourier basis, by which a rate of 0.05 suits both (as in the same code)."""


class Pixels(nn.Module):
    """Pictures as their pixels.

    Attributes:
        count: number N of pictures.
        height, width, channels: size of a picture.
        noise: standard deviation of the first values; 0: all are grey.
        decorrelate: whether colours are trained in axes that are uncorrelated in photos; of three channels alone.
    """

    count: int
    height: int
    width: int
    channels: int
    noise: NonNegative = 0.01
    decorrelate: bool = True

    @nn.compact
    def __call__(self, index: jax.Array) -> jax.Array:
        """Returns the logits f32 [B, H, W, C] of the pictures at index i32 [B]."""
        shape = (self.count, self.height, self.width, self.channels)
        pixels = self.param("pixels", _normal(self.noise), shape)
        chosen = jnp.take(pixels, index, axis=0, mode="clip")  # [N, H, W, C] at [B] -> [B, H, W, C]
        return coloured(at_least_f32(chosen), self.decorrelate)


class Fourier(nn.Module):
    """Pictures as their Fourier coefficients, divided by frequency: a step then changes all scales alike (Olah et al. 2017).

    Attributes:
        count: number N of pictures.
        height, width, channels: size of a picture.
        noise: standard deviation of the first coefficients; 0: all pictures are grey.
        decorrelate: whether colours are trained in axes that are uncorrelated in photos; of three channels alone.
    """

    count: int
    height: int
    width: int
    channels: int
    noise: NonNegative = 0.01
    decorrelate: bool = True

    @nn.compact
    def __call__(self, index: jax.Array) -> jax.Array:
        """Returns the logits f32 [B, H, W, C] of the pictures at index i32 [B]."""
        frequencies = np.hypot(np.fft.fftfreq(self.height)[:, None], np.fft.rfftfreq(self.width)[None])  # [H, W // 2 + 1]
        scale = np.sqrt(self.height * self.width) / np.maximum(frequencies, 1.0 / max(self.height, self.width))
        shape = (self.count, *frequencies.shape, self.channels, 2)
        spectrum = self.param("spectrum", _normal(self.noise), shape)
        chosen = at_least_f32(jnp.take(spectrum, index, axis=0, mode="clip"))  # [N, …] at [B] -> [B, H, W // 2 + 1, C, 2]
        scaled = chosen * jnp.asarray(scale[None, :, :, None, None] / LOWERED, chosen.dtype)
        waves = jax.lax.complex(scaled[..., 0], scaled[..., 1])
        return coloured(jnp.fft.irfft2(waves, s=(self.height, self.width), axes=(1, 2)), self.decorrelate)


def _normal(deviation: float | jax.Array) -> nn.initializers.Initializer:
    """Returns the initialiser of normal values; the deviation may be a tracer or 0."""
    return lambda key, shape, dtype=jnp.float32: jnp.asarray(deviation, dtype) * jax.random.normal(key, shape, dtype)


def coloured(values: jax.Array, decorrelate: bool) -> jax.Array:
    """Returns values [B, H, W, C] of decorrelated axes as colours; others as they are."""
    if not decorrelate or values.shape[-1] != 3:
        return values
    axes = COLOURS / np.max(np.linalg.norm(COLOURS, axis=0))
    return values @ jnp.asarray(axes.T, values.dtype)  # [B, H, W, 3] x [3, RGB] -> [B, H, W, RGB]


BASES = {"pixels": Pixels, "fourier": Fourier}
"""Canvases by the name of their basis, for `Choice[BASES]`."""
