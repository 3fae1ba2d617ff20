"""The network of fast style transfer, which takes a photo to a picture in one pass.

Johnson, Alahi and Fei-Fei 2016, Perceptual losses for real-time style transfer and super-resolution, arXiv 1603.08155, with its
supplementary material; instance normalisation by Ulyanov et al. 2017, arXiv 1701.02096.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models import norms
from cnnlab.models.layers import Conv
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count


class Stylizer(nn.Module):
    """Two convolutions of stride 2, residual blocks, and twice an enlargement with a convolution (supplement, Table 1).

    Deviations: the picture is enlarged by repeating pixels and then convolved, which leaves no checkerboard (Odena, Dumoulin
    and Olah 2016, Distill), in place of transposed convolutions; the border is mirrored before every convolution, in place of
    the input's alone; the output is a sigmoid in [0, 1], in place of a scaled tanh.

    Attributes:
        channels: number of channels of photo and picture.
        width: channels after the first convolution; 32 in the paper.
        blocks: number of residual blocks; 5 in the paper.
        norm: applied after every convolution but the last: instance, or batch as in the paper.
        enlarge: how the picture grows: its pixels are repeated, or interpolated.
        initializer: initialiser of the kernels; biases start at 0.
    """

    channels: int
    width: Count = 16
    blocks: Count = 3
    norm: Choice[NORMS] = norms.instance_norm
    enlarge: Literal["nearest", "linear"] = "nearest"
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1] to pictures [B, H, W, C] in [0, 1]."""
        height, width = images.shape[1:3]

        def convolved(x: jax.Array, features: int, kernel: int, stride: int, name: str) -> jax.Array:
            x = self._convolution(x, features, kernel, stride, name)
            return self.norm(train=train, name=f"{name}_norm")(x)

        x = jax.nn.relu(convolved(images - 0.5, self.width, 9, 1, "down1"))
        x = jax.nn.relu(convolved(x, 2 * self.width, 3, 2, "down2"))
        x = jax.nn.relu(convolved(x, 4 * self.width, 3, 2, "down3"))
        for number in range(1, self.blocks + 1):
            inner = jax.nn.relu(convolved(x, 4 * self.width, 3, 1, f"block{number}_conv1"))
            x = x + convolved(inner, 4 * self.width, 3, 1, f"block{number}_conv2")
        for number, factor in ((1, 2), (2, 1)):
            batch, tall, wide, features = x.shape
            x = jax.image.resize(x, (batch, 2 * tall, 2 * wide, features), self.enlarge)
            x = jax.nn.relu(convolved(x, factor * self.width, 3, 1, f"up{number}"))
        pictures = jax.nn.sigmoid(self._convolution(x, self.channels, 9, 1, "output"))
        # A stride of 2 rounds odd sides up: [B, 4 ⌈H / 4⌉, 4 ⌈W / 4⌉, C] -> [B, H, W, C]
        return pictures[:, :height, :width]

    @nn.nowrap
    def _convolution(self, x: jax.Array, features: int, kernel: int, stride: int, name: str) -> jax.Array:
        """Convolves x [B, H, W, C] with a mirrored border, [B, ⌈H / stride⌉, ⌈W / stride⌉, features]."""
        reach = kernel // 2
        x = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
        bias = name == "output" or norms.needs_bias(self.norm)
        return Conv(features, kernel, stride, 0, bias=bias, initializer=self.initializer, name=name)(x)


STYLIZERS = {"johnson": Stylizer}
"""Networks of fast style transfer by name: `network(images in [0, 1], train=…) -> pictures in [0, 1]`."""
