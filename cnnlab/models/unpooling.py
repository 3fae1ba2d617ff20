"""Pooling that remembers its maxima and unpooling as layers: those of SegNet and DeconvNet."""

from typing import Literal

import flax.linen as nn
import jax

from cnnlab.ops import unpool, upsample

Unpooling = Literal["switches", "nearest", "nails"]


class SwitchPool(nn.Module):
    """Takes the largest of 2x2 and remembers its place; an incomplete last window is pooled too."""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Maps x [B, H, W, C] to (maxima, switches i32), both [B, ⌈H / 2⌉, ⌈W / 2⌉, C]."""
        return unpool.max_pool_with_switches(x, ceil=True)


class Unpool(nn.Module):
    """Doubles the height and width of a map, less the last row or column where the pooling had an incomplete window.

    Attributes:
        size: (H, W) of the result.
        how: switches puts values where the maxima of the encoder were, among zeros; nearest copies them into blocks of 2x2;
            nails puts them into the upper left corner, among zeros.
    """

    size: tuple[int, int]
    how: Unpooling = "switches"

    @nn.compact
    def __call__(self, x: jax.Array, switches: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to [B, *size, C].

        Args:
            x: maps.
            switches: places of the maxima of the encoder's pooling, i32 of the same shape.
        """
        if self.how == "switches":
            return unpool.max_unpool(x, switches, self.size)
        x = upsample.nearest(x) if self.how == "nearest" else upsample.bed_of_nails(x)
        return x[:, : self.size[0], : self.size[1]]
