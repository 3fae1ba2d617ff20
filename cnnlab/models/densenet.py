"""DenseNet: the input of every layer is the concatenated output of all layers before it at the same resolution.

Huang, Liu, van der Maaten and Weinberger 2017, Densely connected convolutional networks, arXiv 1608.06993.
"""

import functools
from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models import layers, norms
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.layers import AveragePool, Conv, ConvNorm, Dropout, MaxPool
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count, Fraction, Positive, Range


class Composite(nn.Module):
    """Norm, activation, convolution and dropout, in this order, once or more (section 3, "Composite function").

    Attributes:
        convolutions: (output channels, side of the kernel) of each convolution.
        dropout, norm, activation, initializer: as in `DenseNet`.
    """

    convolutions: tuple[tuple[int, int], ...]
    dropout: Fraction = 0.0
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H, W, channels of the last convolution]."""
        for number, (features, kernel) in enumerate(self.convolutions, start=1):
            x = self.activation(self.norm(train=train, name=f"norm{number}")(x))
            x = Conv(
                features,
                kernel,
                padding=kernel // 2,
                bias=norms.needs_bias(self.norm),
                initializer=self.initializer,
                name=f"conv{number}",
            )(x)
            x = Dropout(self.dropout, name=f"dropout{number}")(x, train=train)
        return x


class DenseNet(nn.Module):
    """DenseNet-121, and by its knobs every DenseNet: dense blocks with transitions in between that halve the image.

    Attributes:
        classes: number of classes; 0: the output is the features.
        blocks: number of layers of each dense block.
        growth: channels that each layer adds (k of the paper).
        bottleneck: output channels of the 1x1 convolution before each 3x3, as a multiple of the growth (4 in DenseNet-B); 0:
            there is no 1x1 convolution.
        compression: fraction of the channels that a transition keeps, rounded down (θ; 0.5 in DenseNet-C).
        channels: channels of the stem; none: twice the growth.
        stem: `imagenet` (7x7 with stride 2, norm, activation, 3x3 max pooling with stride 2; Table 1) or `small` (one 3x3
            convolution with stride 1; section 3, "Implementation Details"), for images of about 32x32.
        norm: applied before every activation.
        activation: applied before every convolution but the stem's, and before the last pooling.
        dropout: drop probability after every convolution but the stem's, as in section 4.2, and before the last layer.
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on the growth and on the stem's channels, hence on all channels.
    """

    classes: int
    blocks: tuple[int, ...] = (6, 12, 24, 16)
    growth: Count = 32
    bottleneck: Annotated[int, Range(0)] = 4
    compression: Annotated[float, Range(0, 1, open_low=True)] = 0.5
    channels: Count | None = None
    stem: Literal["imagenet", "small"] = "imagenet"
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    dropout: Fraction = 0.0
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], stem, dense blocks, the final maps, their mean, the output)."""
        growth, intermediates = layers.scaled(self.growth, self.width), {}
        narrow = ((self.bottleneck * growth, 1),) if self.bottleneck else ()
        intermediates["stem"] = x = self._stem(images, train=train)
        for stage, depth in enumerate(self.blocks, start=1):
            if stage > 1:
                # A transition keeps the fraction θ of the channels that the block has accumulated (DenseNet-C).
                kept = max(1, int(self.compression * x.shape[-1]))
                x = self._composite(((kept, 1),), f"transition{stage - 1}")(x, train=train)
                x = AveragePool(2, name=f"transition{stage - 1}_pool")(x)
            for number in range(1, depth + 1):
                layer = self._composite((*narrow, (growth, 3)), f"stage{stage}_layer{number}")
                # [B, H, W, C] and [B, H, W, growth] -> [B, H, W, C + growth]
                x = jnp.concatenate([x, layer(x, train=train)], axis=-1)
            intermediates[f"stage{stage}"] = x
        intermediates["final"] = x = self.activation(self.norm(train=train, name="norm")(x))
        intermediates["features"] = x = jnp.mean(x, axis=(1, 2))  # [B, H, W, C] -> [B, C]
        # Deviation: the paper has no dropout here; it is added so that the knob means the same in all networks.
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        intermediates["output"] = x = layers.output_layer(x, self.classes, self.initializer)
        return x, intermediates

    def _composite(self, convolutions: tuple[tuple[int, int], ...], name: str) -> Composite:
        return Composite(convolutions, self.dropout, self.norm, self.activation, self.initializer, name=name)

    def _stem(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [B, H, W, C] to [B, H / 4, W / 4, channels], or [B, H, W, channels] by the small stem."""
        channels = layers.scaled(self.channels or 2 * self.growth, self.width)
        if self.stem == "small":
            plain = norms.needs_bias(self.norm)
            return Conv(channels, 3, padding=1, bias=plain, initializer=self.initializer, name="stem")(images)
        x = ConvNorm(
            channels,
            kernel=7,
            strides=2,
            padding=3,
            norm=self.norm,
            activation=self.activation,
            initializer=self.initializer,
            name="stem",
        )(images, train=train)
        return MaxPool(3, 2, padding=1, name="stem_pool")(x)


densenet121 = functools.partial(DenseNet)
"""DenseNet-BC-121, growth 32; 7,978,856 parameters (Huang et al. 2017, Table 1)."""
densenet169 = functools.partial(DenseNet, blocks=(6, 12, 32, 32))
"""DenseNet-BC-169, growth 32; 14,149,480 parameters (Huang et al. 2017, Table 1)."""
densenet201 = functools.partial(DenseNet, blocks=(6, 12, 48, 32))
"""DenseNet-BC-201, growth 32; 20,013,928 parameters (Huang et al. 2017, Table 1)."""
densenet161 = functools.partial(DenseNet, blocks=(6, 12, 36, 24), growth=48)
"""DenseNet-BC-161, growth 48; 28,681,000 parameters (the paper's first version and its authors' code, as in torchvision)."""

_plain_cifar = functools.partial(DenseNet, bottleneck=0, compression=1.0, channels=16, stem="small")
_bc_cifar = functools.partial(DenseNet, stem="small")

cifar_densenet40_12 = functools.partial(_plain_cifar, blocks=(12, 12, 12), growth=12)
"""DenseNet-40 for CIFAR, growth 12; 1,019,722 parameters, 5.24 % error on C10+ (Huang et al. 2017, Table 2)."""
cifar_densenet100_12 = functools.partial(_plain_cifar, blocks=(32, 32, 32), growth=12)
"""DenseNet-100 for CIFAR, growth 12; 6,979,642 parameters, 4.10 % error on C10+ (Huang et al. 2017, Table 2)."""
cifar_densenet100_24 = functools.partial(_plain_cifar, blocks=(32, 32, 32), growth=24)
"""DenseNet-100 for CIFAR, growth 24; 27,249,082 parameters, 3.74 % error on C10+ (Huang et al. 2017, Table 2)."""
cifar_densenet_bc100_12 = functools.partial(_bc_cifar, blocks=(16, 16, 16), growth=12)
"""DenseNet-BC-100 for CIFAR, growth 12; 769,162 parameters, 4.51 % error on C10+ (Huang et al. 2017, Table 2)."""
cifar_densenet_bc250_24 = functools.partial(_bc_cifar, blocks=(41, 41, 41), growth=24)
"""DenseNet-BC-250 for CIFAR, growth 24; 15,324,406 parameters, 3.62 % error on C10+ (Huang et al. 2017, Table 2)."""
cifar_densenet_bc190_40 = functools.partial(_bc_cifar, blocks=(31, 31, 31), growth=40)
"""DenseNet-BC-190 for CIFAR, growth 40; 25,624,430 parameters, 3.46 % error on C10+ (Huang et al. 2017, Table 2)."""
