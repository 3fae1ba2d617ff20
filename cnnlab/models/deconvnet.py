"""DeconvNet: VGG-16 as an encoder and its mirror image of unpooling and transposed convolutions.

Noh, Hong and Han 2015, Learning deconvolution network for semantic segmentation, arXiv 1505.04366; layers as in the authors'
prototxt.
"""

import flax.linen as nn
import jax

from cnnlab.models import norms
from cnnlab.models.dense_maps import pixel_logits, with_output
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.layers import ConvNorm, ConvTranspose, Dropout, scaled
from cnnlab.models.norms import NORMS
from cnnlab.models.unpooling import SwitchPool, Unpool, Unpooling
from cnnlab.models.vgg import CHANNELS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.windows import Padding
from cnnlab.values import Choice, Count, Fraction, Positive


class DeconvNet(nn.Module):
    """DeconvNet for 224x224, 251,805,653 parameters for 21 classes; larger images work too.

    Pooling keeps an incomplete last window, and unpooling gives back the size before it. The paper predicts boxes of objects
    and joins them; here the network sees the whole image.

    Attributes:
        classes: number of classes.
        depths: number of convolutions of each stage of the encoder; those of the decoder are as many, in reverse.
        hidden: channels of fc6 and fc7.
        grid: side of the kernel of fc6 and of its mirror image. An image has more than 32 · (grid − 1) pixels a side.
        unpool: how the decoder enlarges: by the switches of the encoder's pooling, nearest, or nails.
        norm: applied after every convolution but the last; the convolutions have a bias nevertheless.
        activation: applied after every norm.
        dropout: drop probability after fc6 and fc7; 0 in the paper, which has batch norm there.
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all numbers of channels.
    """

    classes: int
    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    hidden: tuple[int, int] = (4096, 4096)
    grid: Count = 7
    unpool: Unpooling = "switches"
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    dropout: Fraction = 0.0
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, H, W, K], stages of encoder and decoder, fc6, fc7, the output)."""
        x, sizes, places, intermediates = images, dict[int, tuple[int, int]](), dict[int, jax.Array](), {}
        channels = [scaled(count, self.width) for count in CHANNELS[: len(self.depths)]]
        for stage, depth in enumerate(self.depths, start=1):
            for number in range(1, depth + 1):
                x = self._layer(channels[stage - 1], f"conv{stage}_{number}", 3, 1)(x, train=train)
            sizes[stage] = (x.shape[1], x.shape[2])
            x, places[stage] = SwitchPool(name=f"pool{stage}")(x)
            intermediates[f"encoder{stage}"] = x
        for name, units, kernel in zip(("fc6", "fc7"), self.hidden, (self.grid, 1), strict=True):
            intermediates[name] = x = self._layer(scaled(units, self.width), name, kernel, 0)(x, train=train)
            x = Dropout(self.dropout, name=f"dropout_{name}")(x, train=train)
        x = self._transposed(x, channels[-1], "deconv6", self.grid, 0, train=train)
        for stage in reversed(places):
            depth = self.depths[stage - 1]
            x = Unpool(sizes[stage], self.unpool, name=f"unpool{stage}")(x, places[stage])
            # The last convolution of a stage has the channels of the stage above; that of the first stage, its own.
            for number, count in enumerate([channels[stage - 1]] * (depth - 1) + [channels[max(stage - 2, 0)]], start=1):
                x = self._transposed(x, count, f"deconv{stage}_{number}", 3, 1, train=train)
            intermediates[f"decoder{stage}"] = x
        x = pixel_logits(x, self.classes, self.initializer)
        return with_output(x, intermediates)

    def _layer(self, features: int, name: str, kernel: int, padding: Padding) -> ConvNorm:
        how = {"norm": self.norm, "activation": self.activation, "initializer": self.initializer}
        return ConvNorm(features, kernel, padding=padding, bias=True, name=name, **how)

    def _transposed(self, x: jax.Array, features: int, name: str, kernel: int, padding: int, *, train: bool) -> jax.Array:
        x = ConvTranspose(features, kernel, padding=padding, initializer=self.initializer, name=name)(x)
        return self.activation(self.norm(train=train, name=f"{name}_norm")(x))
