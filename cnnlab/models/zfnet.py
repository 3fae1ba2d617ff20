"""M6: ZFNet, AlexNet with smaller first kernels and strides (Zeiler and Fergus 2014, arXiv 1311.2901, figure 3)."""

import jax

from cnnlab.models.alexnet import AlexNet


class ZFNet(AlexNet):
    """AlexNet in one tower that looks closer: 7x7 with stride 2 and 5x5 with stride 2; 62,357,608 parameters, for 224x224.

    Figure 3 gives sides of 110, 55, 26, 13, 13, 13, 13 and 6; they follow from a padding of 1 in conv1, none in conv2, and
    pooling of incomplete windows. The constants of "contrast normalised across feature maps" are those of AlexNet.

    Attributes:
        classes: how many.
        channels: of the five convolutions; 512, 1024, 512 for the last three is the paper's larger network (table 3).
        groups: towers: in conv2, conv4 and conv5 a channel sees those of its own tower alone.
        kernels: sides of conv1's and conv2's kernels; those of the rest are 3.
        strides: of conv1 and conv2.
        paddings: of conv1 and conv2.
        lrn: local response normalisation after conv1 and conv2.
        lrn_first: whether that comes before the pooling, as in AlexNet, or after it, as in the paper.
        overlapping: pooling windows of 3 with stride 2; otherwise of 2 with stride 2.
        ceil: whether incomplete windows at the border are pooled.
        hidden: units of fc6 and fc7.
        head: dense layers, or the convolutions that they are, which slide over larger images.
        activation: after every layer but the last.
        norm: between each convolution and its activation.
        dropout: drop probability after fc6 and fc7.
        initializer: of the kernels; biases start at 0.
        width: factor on all channels and hidden units.
        stem: small gives conv1 and conv2 stride 1 and kernels of at most 5, for images of 32x32.
    """

    channels: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    kernels: tuple[int, int] = (7, 5)
    strides: tuple[int, int] = (2, 2)
    paddings: tuple[int, int] = (1, 0)
    lrn: bool = True
    ceil: bool = True
    lrn_first: bool = False

    def _shrink(self, x: jax.Array, number: int) -> jax.Array:
        """Pooling and local response normalisation, in the order of `lrn_first`."""
        if self.lrn_first:
            return self._pool(self._respond(x, number), number)
        return self._respond(self._pool(x, number), number)
