"""SegNet: an encoder and its mirror image, which unpools by the switches of the encoder's pooling.

Badrinarayanan, Kendall and Cipolla 2017, SegNet: A deep convolutional encoder-decoder architecture for image segmentation,
arXiv 1511.00561; dropout as in Bayesian SegNet (Kendall et al. 2015, arXiv 1511.02680).
"""

import flax.linen as nn
import jax

from cnnlab.models import norms
from cnnlab.models.dense_maps import pixel_logits, with_output
from cnnlab.models.layers import Conv, ConvNorm, Dropout, scaled
from cnnlab.models.norms import NORMS
from cnnlab.models.unpooling import SwitchPool, Unpool, Unpooling
from cnnlab.models.vgg import CHANNELS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS, identity
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.local_response_norm import local_response_normalization
from cnnlab.values import Choice, Count, Fraction, Positive


class SegNet(nn.Module):
    """SegNet on the convolutions of VGG-16 with batch norm, 29,443,008 + 577 K parameters for 3 channels and K classes.

    Pooling keeps an incomplete last window, and unpooling gives back the size before it, so that any size will do.

    Attributes:
        classes: number of classes.
        depths: number of convolutions of each stage of the encoder; those of the decoder are as many, in reverse.
        unpool: how the decoder enlarges: by the switches of the encoder's pooling, nearest, or nails.
        norm: applied after every convolution but the last; the convolutions have a bias nevertheless, as the authors' have.
        activation: applied after every norm.
        dropout: drop probability after the stages 3 to 5 of the encoder and of the decoder (0.5 in Bayesian SegNet).
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all numbers of channels.
    """

    classes: int
    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    unpool: Unpooling = "switches"
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    dropout: Fraction = 0.0
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, H, W, K], each stage of encoder and decoder, the output)."""
        x, sizes, places, intermediates = images, dict[int, tuple[int, int]](), dict[int, jax.Array](), {}
        channels = [scaled(count, self.width) for count in CHANNELS[: len(self.depths)]]
        for stage, depth in enumerate(self.depths, start=1):
            for number in range(1, depth + 1):
                x = self._layer(channels[stage - 1], f"encoder{stage}_{number}")(x, train=train)
            sizes[stage] = (x.shape[1], x.shape[2])
            x, places[stage] = SwitchPool(name=f"pool{stage}")(x)
            intermediates[f"encoder{stage}"] = x = self._dropped(x, f"encoder_dropout{stage}", stage, train=train)
        for stage in reversed(places):
            depth = self.depths[stage - 1]
            x = Unpool(sizes[stage], self.unpool, name=f"unpool{stage}")(x, places[stage])
            # The last convolution of a stage has the channels of the stage above, that of the first stage gives the logits.
            after = [channels[stage - 1]] * (depth - 1) + [channels[stage - 2]] * (stage > 1)
            for number, count in enumerate(after, start=1):
                x = self._layer(count, f"decoder{stage}_{number}")(x, train=train)
            intermediates[f"decoder{stage}"] = x = self._dropped(x, f"decoder_dropout{stage}", stage, train=train)
        x = Conv(self.classes, 3, initializer=self.initializer, name="output")(x)
        return with_output(x, intermediates)

    def _dropped(self, x: jax.Array, name: str, stage: int, *, train: bool) -> jax.Array:
        return Dropout(self.dropout, name=name)(x, train=train) if stage >= FIRST_DROPPED else x

    def _layer(self, features: int, name: str) -> ConvNorm:
        how = {"norm": self.norm, "activation": self.activation, "initializer": self.initializer}
        return ConvNorm(features, 3, bias=True, name=name, **how)


FIRST_DROPPED = 3
"""First stage with dropout in Bayesian SegNet."""


class SegNetBasic(nn.Module):
    """SegNet-Basic: four stages of one convolution of 7x7 each, 1,416,587 parameters for 3 channels and 11 classes.

    Images of any size will do, as with SegNet.

    Attributes:
        classes: number of classes.
        levels: number of stages of the encoder and of the decoder.
        kernel: side of the kernels.
        lrn: whether local response normalisation is applied to the image first, as in the authors' prototxt.
        unpool: how the decoder enlarges: by the switches of the encoder's pooling, nearest, or nails.
        norm: applied after every convolution of 7x7; they have a bias nevertheless.
        activation: applied after every norm of the encoder; the decoder has none.
        dropout: drop probability of the deepest features; 0 in the paper.
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on the 64 channels.
    """

    classes: int
    levels: Count = 4
    kernel: Count = 7
    lrn: bool = True
    unpool: Unpooling = "switches"
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    dropout: Fraction = 0.0
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, H, W, K], each stage of encoder and decoder, the output)."""
        x, sizes, places, intermediates = images, dict[int, tuple[int, int]](), dict[int, jax.Array](), {}
        x = local_response_normalization(x, size=5, alpha=1e-4, beta=0.75, k=1.0) if self.lrn else x
        for stage in range(1, self.levels + 1):
            x = self._layer(f"encoder{stage}", self.activation)(x, train=train)
            sizes[stage] = (x.shape[1], x.shape[2])
            x, places[stage] = SwitchPool(name=f"pool{stage}")(x)
            intermediates[f"encoder{stage}"] = x
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        for stage in reversed(places):
            x = Unpool(sizes[stage], self.unpool, name=f"unpool{stage}")(x, places[stage])
            intermediates[f"decoder{stage}"] = x = self._layer(f"decoder{stage}", identity)(x, train=train)
        x = pixel_logits(x, self.classes, self.initializer)
        return with_output(x, intermediates)

    def _layer(self, name: str, activation: Choice[ACTIVATIONS]) -> ConvNorm:
        how = {"norm": self.norm, "activation": activation, "initializer": self.initializer}
        return ConvNorm(scaled(64, self.width), self.kernel, bias=True, name=name, **how)
