"""PixelCNN and the gated PixelCNN without a blind spot.

Every network of PIXEL_MODELS is called as `model(images f32 [B, H, W, C], labels i32 [B], train=…, at=…)` and returns
(numbers [B, H, W, P], intermediates): the P parameters of a distribution for each pixel, which depend only on the pixels
before it in raster order.
"""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import OUTPUT
from cnnlab.models.causal import POINT, ByClass, Causal, above, along, down_to, square, take
from cnnlab.ops import init
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.raster_scan import Place
from cnnlab.values import Choice, Count

Numbers = tuple[jax.Array, dict[str, jax.Array]]


class PixelCNN(nn.Module):
    """The PixelCNN of van den Oord et al. 2016, arXiv 1601.06759, Table 1; 100,449 parameters for binary images at width 32.

    A 7x7 convolution with mask a, residual blocks of 1x1, 3x3 and 1x1 with mask b (Figure 5), two 1x1 convolutions and the
    output. Its receptive field has a blind spot to the right above a pixel.

    Attributes:
        outputs: P, parameters of the distribution of a pixel.
        groups: number of channels that are predicted one after another; 1 where the distribution itself orders them.
        classes: number of classes that condition the images; 0: none.
        width: units inside a block; its input and output have twice as many.
        blocks: number of residual blocks.
        reach: reach of the first convolution in pixels: 3 for 7x7.
        head: units of the two 1x1 convolutions before the output: 32 for MNIST and 1024 for CIFAR-10 in the paper.
        initializer: initialiser of the kernels; biases start at 0.
    """

    outputs: int
    groups: int
    classes: int
    width: Count = 32
    blocks: Count = 7
    reach: Count = 3
    head: Count = 32
    initializer: Choice[INITIALIZERS] = init.he
    by_row: ClassVar[bool] = False
    """Whether a row must be evaluated as a whole before its pixels."""

    @nn.compact
    def __call__(self, images: jax.Array, labels: jax.Array, *, train: bool, at: Place | None = None) -> Numbers:
        """Maps whole images f32 [B, H, W, C] to (numbers [B, H, W, P], every block by name); at a pixel, H = W = 1."""
        convolution = functools.partial(Causal, groups=self.groups, initializer=self.initializer)
        first = convolution(2 * self.width, square(self.reach), "a", of_image=True, name="conv0")
        x = ByClass(self.classes, 2 * self.width, name="class0")(first(images, at), labels)
        intermediates = {"conv0": x}
        # Bottleneck blocks with the ReLU before each convolution and an identity shortcut (Figure 5, left).
        for number in range(1, self.blocks + 1):
            y = convolution(self.width, name=f"block{number}_reduce")(jax.nn.relu(x), at)
            y = convolution(self.width, square(1), name=f"block{number}_conv")(jax.nn.relu(y), at)
            y = ByClass(self.classes, self.width, name=f"class{number}")(y, labels)
            y = convolution(2 * self.width, name=f"block{number}_expand")(jax.nn.relu(y), at)
            intermediates[f"block{number}"] = x = x + y
        x, heads = finished(x, at, self.head, self.outputs, convolution)
        return x, intermediates | heads


def finished(x: jax.Array, at: Place | None, width: int, outputs: int, convolution: functools.partial) -> Numbers:
    """Applies two 1x1 convolutions of `width` units and the output layer, a ReLU before each, inside a compact module."""
    intermediates = {}
    for number in (1, 2):
        intermediates[f"head{number}"] = x = convolution(width, name=f"head{number}")(jax.nn.relu(x), at)
    intermediates[OUTPUT] = x = convolution(outputs, name=OUTPUT)(jax.nn.relu(x), at)
    return x, intermediates


def gate(x: jax.Array) -> jax.Array:
    """Multiplies tanh of the first half of the units by the sigmoid of the second (arXiv 1606.05328, eq. 2)."""
    value, opening = jnp.split(x, 2, axis=-1)  # [..., 2 · width] -> 2 x [..., width]
    return jnp.tanh(value) * jax.nn.sigmoid(opening)


class GatedPixelCNN(nn.Module):
    """The gated PixelCNN of van den Oord et al. 2016b, arXiv 1606.05328: a vertical and a horizontal stack, no blind spot.

    The vertical stack takes all columns of the rows above; the horizontal one takes its own row to the left and the output of
    the vertical one. The windows here cover just the rows above, where the paper masks or shifts; the function is the same.

    Attributes:
        outputs: P, parameters of the distribution of a pixel.
        groups: number of channels that are predicted one after another; 1 where the distribution itself orders them.
        classes: number of classes that condition the images; 0: none.
        width: units of either stack.
        layers: number of layers; the first takes the image and has no residual connection.
        reach: reach of the first layer in pixels: 3 for a 7x7 without the part below and right; later layers reach 1.
        head: units of the two 1x1 convolutions before the output: 32 for MNIST and 1024 for CIFAR-10 in the paper.
        initializer: initialiser of the kernels; biases start at 0.
    """

    outputs: int
    groups: int
    classes: int
    width: Count = 32
    layers: Count = 6
    reach: Count = 3
    head: Count = 32
    initializer: Choice[INITIALIZERS] = init.lecun
    by_row: ClassVar[bool] = True
    """Whether a row must be evaluated as a whole before its pixels."""

    @nn.compact
    def __call__(self, images: jax.Array, labels: jax.Array, *, train: bool, at: Place | None = None) -> Numbers:
        """Maps whole images f32 [B, H, W, C] to (numbers [B, H, W, P], every layer by name); at a pixel, H = W = 1.

        A row must be evaluated before its pixels: that keeps the output of its vertical stack for them and returns no
        numbers.
        """
        links = self._links(images, labels, at)
        if at is not None and at.row is not None and at.column is None:
            return images[..., :0], {}
        convolution = functools.partial(Causal, groups=self.groups, initializer=self.initializer)
        x, intermediates = images, {}
        for number, link in enumerate(links):
            first = number == 0
            # The first layer must not use the pixel itself (mask a) and has no input of the same width for a residual.
            context = {"window": along(self.reach), "order": "a", "of_image": True} if first else {"window": along(1)}
            y = convolution(2 * self.width, parts=2, **context, name=f"horizontal{number}")(x, at)
            y = ByClass(self.classes, 2 * self.width, name=f"class{number}")(y + link, labels)
            y = convolution(self.width, name=f"merge{number}")(gate(y), at)
            intermediates[f"layer{number}"] = x = y if first else x + y
        x, heads = finished(x, at, self.head, self.outputs, convolution)
        return x, intermediates | heads

    def _links(self, images: jax.Array, labels: jax.Array, at: Place | None) -> list[jax.Array]:
        """Returns the vertical stack's input to each horizontal layer, [B, H, W, 2 · width]; kept between row and pixels."""
        links, x = [], images
        for number in range(self.layers):
            kept = None
            if at is not None and at.row is not None:
                shape = (images.shape[0], 1, at.size[1], 2 * self.width)
                kept = self.variable("cache", f"kept{number}", jnp.zeros, shape, images.dtype)
                if at.column is not None:  # at a pixel: read what the evaluation of the row has kept
                    links.append(take(kept.value, Place(at.size, jnp.int32(0), at.column), (1, 1)))
                    continue
            vertical = functools.partial(Causal, 2 * self.width, order="free", initializer=self.initializer)
            window = above(self.reach) if number == 0 else down_to(1)
            y = vertical(window, of_image=number == 0, name=f"vertical{number}")(x, at)
            y = ByClass(self.classes, 2 * self.width, name=f"vertical_class{number}")(y, labels)
            links.append(vertical(POINT, name=f"link{number}")(y, at))
            if kept is not None:
                kept.value = links[-1]
            x = gate(y)
        return links
