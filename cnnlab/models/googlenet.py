"""GoogLeNet, the first Inception network, as in the paper and with batch normalisation as in torchvision.

Szegedy et al. 2014, Going deeper with convolutions, arXiv 1409.4842, table 1; details that the paper leaves out follow
Caffe's bvlc_googlenet. Two networks go by this name: 6,998,552 parameters (`googlenet`) and 6,624,904 (`googlenet_bn`).
"""

import functools
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models import layers, norms
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.inception_blocks import MAX_POOL, Convolution, Mixed, Steps
from cnnlab.models.layers import AveragePool, ConvNorm, Dropout, MaxPool, scaled
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.local_response_norm import local_response_normalization
from cnnlab.ops.pooling import adaptive_average_pool
from cnnlab.values import Choice, Count, Fraction, Positive

TABLE_1 = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Module -> channels of 1x1; of 3x3 and the 1x1 that reduces before it; likewise of 5x5; of 1x1 after pooling (the
reducing one first in each pair)."""

POOLED = {"3b": 3, "4e": 4}
"""Module -> number of the pooling that follows it."""

AUXILIARY = {"4a": "auxiliary1", "4d": "auxiliary2"}
"""Module -> name of the auxiliary head on its output (section 5)."""

GRID = 4
"""Height and width of an auxiliary head's input, for images of 224x224; maps of other sizes are pooled to it."""

AUXILIARY_DROPOUT = 0.7
"""Drop probability before the last layer of an auxiliary head (section 5)."""


def branches(module: str, kernel: int) -> tuple[Steps, ...]:
    """Returns the four branches of a module of table 1.

    Args:
        module: name of the module, such as 3a.
        kernel: side of the kernel of the third branch.
    """
    single, reduce3, expand3, reduce5, expand5, pooled = TABLE_1[module]
    return (
        (Convolution(single),),
        (Convolution(reduce3), Convolution(expand3, 3)),
        (Convolution(reduce5), Convolution(expand5, kernel)),
        (MAX_POOL, Convolution(pooled)),
    )


class AuxiliaryHead(nn.Module):
    """Classifies from the middle of the network, so that early layers get a stronger gradient (section 5).

    Attributes:
        classes: number of classes.
        pooling, activation, initializer, width: as in `GoogLeNet`.
        convolution: makes a convolution with its norm and activation.
    """

    classes: int
    pooling: str
    convolution: Callable[..., nn.Module]
    activation: Choice[ACTIVATIONS]
    initializer: Choice[INITIALIZERS]
    width: Positive

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to logits [B, K]."""
        if self.pooling == "caffe":
            x = AveragePool(5, 3, ceil=True, name="pool")(x)
        # The paper's grid is 4x4 because its images have 224 pixels; other sizes are pooled to it, as in torchvision.
        x = adaptive_average_pool(x, (GRID, GRID))  # [B, H, W, C] -> [B, 4, 4, C]
        x = layers.flatten(self.convolution(scaled(128, self.width), 1, name="conv")(x, train=train))  # -> [B, 16 · 128]
        hidden = nn.Dense(scaled(1024, self.width), kernel_init=self.initializer, name="fc")(x)
        x = Dropout(AUXILIARY_DROPOUT, name="dropout")(self.activation(hidden), train=train)
        return layers.output_layer(x, self.classes, self.initializer)


class GoogLeNet(nn.Module):
    """Three convolutions and nine inception modules, averaged over space; for images of 224x224.

    Attributes:
        classes: number of classes; 0: the output is the features, and there are no auxiliary heads.
        auxiliary: heads after modules 4a and 4d as well, whose logits are the intermediates `auxiliary1` and `auxiliary2`;
            the paper adds 0.3 times their losses.
        kernel: side of the kernels of each module's third branch; 3 in torchvision, a mistake that its weights keep.
        lrn: whether local response normalisation follows the first pooling and precedes the second.
        pooling: `caffe` pools over windows of 3 before module 5a and over windows of 5 with stride 3 in an auxiliary head;
            `torchvision` over windows of 2 and over a grid of 4x4 cells.
        activation: applied after every convolution and the auxiliary heads' hidden layer.
        norm: applied between each convolution and its activation.
        dropout: drop probability before the last layer.
        initializer: initialiser of the kernels; biases start at 0. Caffe draws kernels of variance 1 / fan-in, and its
            biases start at 0.2.
        width: factor on all channels.
        stem: small gives conv1 stride 1 and leaves out the pooling after it, for images of 32x32.
    """

    classes: int
    auxiliary: bool = False
    kernel: Count = 5
    lrn: bool = True
    pooling: Literal["caffe", "torchvision"] = "caffe"
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    norm: Choice[NORMS] = norms.no_norm
    dropout: Fraction = 0.4
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0
    stem: Literal["imagenet", "small"] = "imagenet"

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], stem, inception_3a … 5b, auxiliary heads, features)."""
        intermediates = {}
        convolution = functools.partial(ConvNorm, norm=self.norm, activation=self.activation, initializer=self.initializer)
        intermediates["stem"] = x = self._stem(images, convolution, train)
        for module in TABLE_1:
            name = f"inception_{module}"
            mixed = Mixed(branches(module, self.kernel), convolution, self.width, name=name)
            intermediates[name] = x = mixed(x, train=train)
            # A head's logits are intermediates: the task adds their loss to that of the output (0.3 in the paper).
            if self.auxiliary and self.classes and module in AUXILIARY:
                intermediates[AUXILIARY[module]] = self._head(AUXILIARY[module], convolution)(x, train=train)
            if module in POOLED:
                window = 2 if self.pooling == "torchvision" and POOLED[module] == 4 else 3
                x = MaxPool(window, 2, ceil=True, name=f"pool{POOLED[module]}")(x)
        intermediates["features"] = x = jnp.mean(x, (1, 2))  # [B, H, W, C] -> [B, C]
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        intermediates["output"] = x = layers.output_layer(x, self.classes, self.initializer)
        return x, intermediates

    def _stem(self, x: jax.Array, convolution: Callable[..., nn.Module], train: bool) -> jax.Array:
        small = self.stem == "small"
        x = convolution(scaled(64, self.width), 7, 1 if small else 2, 3, name="conv1")(x, train=train)
        x = self._respond(x if small else MaxPool(3, 2, ceil=True, name="pool1")(x))
        x = convolution(scaled(64, self.width), 1, name="conv2")(x, train=train)
        x = convolution(scaled(192, self.width), 3, padding=1, name="conv3")(x, train=train)
        return MaxPool(3, 2, ceil=True, name="pool2")(self._respond(x))

    def _respond(self, x: jax.Array) -> jax.Array:
        return local_response_normalization(x, k=1.0) if self.lrn else x

    def _head(self, name: str, convolution: Callable[..., nn.Module]) -> AuxiliaryHead:
        return AuxiliaryHead(self.classes, self.pooling, convolution, self.activation, self.initializer, self.width, name=name)


googlenet = functools.partial(GoogLeNet)
"""GoogLeNet, the paper's, 6,998,552 parameters; 13,378,280 with the two auxiliary heads."""

googlenet_bn = functools.partial(
    GoogLeNet,
    kernel=3,
    lrn=False,
    pooling="torchvision",
    norm=functools.partial(norms.batch_norm, epsilon=1e-3),
    dropout=0.2,
)
"""GoogLeNet with batch norm, torchvision's, 6,624,904 parameters; 13,004,888 with the two auxiliary heads."""
