"""ZFNet, AlexNet with smaller first kernels and strides (Zeiler and Fergus 2014, arXiv 1311.2901, figure 3)."""

import jax

from cnnlab.models.alexnet import AlexNet


class ZFNet(AlexNet):
    """AlexNet in one tower with finer first layers, 7x7 and 5x5 of stride 2; 62,357,608 parameters, for 224x224.

    Figure 3 gives sides of 110, 55, 26, 13, 13, 13, 13 and 6; they follow from a padding of 1 in conv1, none in conv2, and
    pooling of incomplete windows. For "contrast normalised across feature maps" the constants of AlexNet are used.

    Attributes:
        classes: number of classes.
        channels: channels of the five convolutions; 512, 1024, 512 for the last three give the larger network of table 3.
        groups: number of towers; conv2, conv4 and conv5 connect channels of the same tower only.
        kernels: sides of the kernels of conv1 and conv2; those of the others are 3.
        strides: strides of conv1 and conv2.
        paddings: paddings of conv1 and conv2.
        lrn: whether local response normalisation follows conv1 and conv2.
        lrn_first: whether it comes before the pooling, as in AlexNet, or after it, as in the paper.
        overlapping: whether pooling windows have a side of 3 with stride 2; otherwise they have a side of 2.
        ceil: whether incomplete windows at the border are pooled.
        hidden: units of fc6 and fc7.
        head: dense layers, the equivalent convolutions, which slide over larger images, or pooled: the output layer alone, on
            the mean of the last maps.
        activation: applied after every layer but the last.
        norm: applied between each convolution and its activation.
        dropout: drop probability after fc6 and fc7.
        initializer: initialiser of the kernels; biases start at 0.
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
        """Applies pooling and local response normalisation, in the order of `lrn_first`."""
        if self.lrn_first:
            return self._pool(self._respond(x, number), number)
        return self._respond(self._pool(x, number), number)
