"""YOLO, version 1: a grid of cells, each of which predicts a few boxes and one class, by regression from the whole image.

Redmon, Divvala, Girshick and Farhadi 2016, You only look once: Unified, real-time object detection, arXiv 1506.02640.
"""

import dataclasses
import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import OUTPUT
from cnnlab.errors import UsageError
from cnnlab.models import norms
from cnnlab.models.dense_maps import with_output
from cnnlab.models.detection import cells
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.layers import ConvNorm, Dropout, MaxPool, flatten, scaled
from cnnlab.models.norms import NORMS
from cnnlab.ops import boxes, init
from cnnlab.ops.activations import ACTIVATIONS, leaky_relu
from cnnlab.ops.heads import Objects, points_on_crowds
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count, Fraction, NonNegative, Positive

BOX = 5
"""Numbers of a box: x, y, √w, √h and the confidence."""
PAPER = (
    *((7, 64, 2), None, (3, 192, 1), None),
    *((1, 128, 1), (3, 256, 1), (1, 256, 1), (3, 512, 1), None),
    *((1, 256, 1), (3, 512, 1)) * 4,
    *((1, 512, 1), (3, 1024, 1), None),
    *((1, 512, 1), (3, 1024, 1)) * 2,
    *((3, 1024, 1), (3, 1024, 2), (3, 1024, 1), (3, 1024, 1)),
)
"""The 24 convolutions of figure 3, each (kernel, channels, stride); None: max pooling of 2x2."""
TINY = (
    *((3, 16, 1), None, (3, 32, 1), None, (3, 64, 1), None, (3, 128, 1), None),
    *((3, 256, 1), None, (3, 512, 1), None, (3, 1024, 1), (3, 256, 1)),
)
"""The 8 convolutions of the authors' yolov1-tiny.cfg."""


@dataclasses.dataclass(frozen=True)
class GridHead:
    """Rows of outputs are the cells: `boxes` times (x, y, √w, √h, confidence), and K values of the classes.

    x and y are the centre in its cell, w and h shares of the image. The loss is eq. 3, squared errors: the cell in which an
    object's centre lies answers for it by the box with the largest IoU, whose confidence shall be this IoU. A cell answers for
    one object alone, the first one. The loss is divided by the number of images.
    """

    grid: tuple[int, int]
    """(h, w), the numbers of cells."""
    boxes: int
    image_size: tuple[int, int]
    """(H, W) in pixels."""
    coordinate_weight: float = 5.0
    empty_weight: float = 0.5
    """Factor of the confidence of boxes that answer for no object."""
    terms: tuple[str, ...] = ("box_loss", "object_loss", "empty_loss", "class_loss")

    def losses(self, outputs: jax.Array, objects: Objects) -> tuple[jax.Array, jax.Array]:
        """Implements Head.losses."""
        height, width = self.grid
        predicted, classes = self._parts(outputs)  # [N, A, 5] and [N, K]
        middle = boxes.centres(objects.corners) / self._sides()  # [M, 4], shares of the image
        column, row = (jnp.floor(middle[:, axis] * cells) for axis, cells in ((0, width), (1, height)))
        inside = objects.valid & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        places = len(objects.valid)
        cell = jnp.where(inside, row * width + column, height * width).astype(jnp.int32)
        # The number of the first object of each cell, `places` where there is none: [M] at [M] -> [N].
        owner = jnp.full(height * width, places, jnp.int32).at[cell].min(jnp.arange(places, dtype=jnp.int32), mode="drop")
        has_object = owner < places
        owner = jnp.where(has_object, owner, 0)
        overlap = jax.lax.stop_gradient(boxes.iou_of_pairs(self._corners(predicted), objects.corners[owner][:, None]))  # [N, A]
        answers = has_object[:, None] & jax.nn.one_hot(jnp.argmax(overlap, axis=-1), self.boxes, dtype=bool)  # [N, A]
        there = jnp.stack([middle[:, 0] * width - column, middle[:, 1] * height - row], axis=-1)  # [M, 2]
        sides = middle[:, 2:]
        roots = jnp.sqrt(jnp.where(sides > 0, sides, 1.0))
        wanted = jnp.concatenate([there, roots], axis=-1)[owner]  # [M, 4] at [N] -> [N, 4]
        errors = jnp.sum((predicted[..., :4] - wanted[:, None]) ** 2, axis=-1)  # [N, A]
        confidence = predicted[..., 4]
        truth = jax.nn.one_hot(objects.label[owner], classes.shape[-1])  # [N, K]
        middles = (cells(self.grid) + 0.5) / jnp.asarray([[width, height]], jnp.float32) * self._sides()[:, :2]  # [N, 2]
        counts_for_nothing = answers | points_on_crowds(middles, objects)[:, None]
        terms = (
            self.coordinate_weight * jnp.sum(jnp.where(answers, errors, 0.0)),
            jnp.sum(jnp.where(answers, (confidence - overlap) ** 2, 0.0)),
            self.empty_weight * jnp.sum(jnp.where(counts_for_nothing, 0.0, confidence**2)),
            jnp.sum(jnp.where(has_object[:, None], (classes - truth) ** 2, 0.0)),
        )
        return jnp.stack(terms), jnp.ones((), jnp.float32)

    def decode(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Implements Head.decode: the score of a class is its value times the confidence of the box (eq. 1)."""
        predicted, classes = self._parts(outputs)
        scores = predicted[..., 4:] * classes[:, None]  # [N, A, 1] and [N, 1, K] -> [N, A, K]
        corners = boxes.clipped(self._corners(predicted), self.image_size)
        # [N, A, 4] -> [N·A, 4] and [N, A, K] -> [N·A, K]
        return corners.reshape(-1, 4), jnp.clip(scores, 0.0, 1.0).reshape(-1, classes.shape[-1])

    def _parts(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns (boxes f32 [N, A, 5], classes f32 [N, K]) of outputs [N, 5 A + K]."""
        split = BOX * self.boxes
        return outputs[:, :split].reshape(-1, self.boxes, BOX), outputs[:, split:]  # [N, 5 A] -> [N, A, 5]

    def _corners(self, predicted: jax.Array) -> jax.Array:
        """Returns the corners f32 [N, A, 4] in pixels of boxes [N, A, 5]."""
        height, width = self.grid
        first = cells(self.grid).astype(predicted.dtype)[:, None]  # [N, 1, 2]
        middle = (predicted[..., :2] + first) / jnp.asarray([width, height], jnp.float32).reshape(1, 1, 2)
        shares = jnp.concatenate([middle, predicted[..., 2:4] ** 2], axis=-1)
        return boxes.corners(shares * self._sides()[None])

    def _sides(self) -> jax.Array:
        """Returns (W, H, W, H), f32 [1, 4]."""
        height, width = self.image_size
        return jnp.asarray([[width, height, width, height]], jnp.float32)


class YOLOv1(nn.Module):
    """YOLO as in figure 3: 24 convolutions and two dense layers, 271,703,550 parameters for 448x448 and 20 classes.

    Images of other sizes, whose sides are multiples of 64, have a grid of one cell for 64 pixels.

    Attributes:
        classes: number of classes of objects.
        layers: paper: the 24 convolutions of figure 3; tiny: the 8 of yolov1-tiny.cfg.
        boxes: boxes that a cell predicts.
        hidden: units of the dense layer before the last; 0: there is none.
        coordinate_weight: factor of the errors of x, y, √w and √h.
        empty_weight: factor of the confidence of boxes that answer for no object.
        activation: applied after every layer but the last.
        norm: applied after every convolution; none in the paper.
        dropout: drop probability after the first dense layer.
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all numbers of channels and hidden units.
    """

    classes: int
    layers: Literal["paper", "tiny"] = "paper"
    boxes: Count = 2
    hidden: int = 4096
    coordinate_weight: NonNegative = 5.0
    empty_weight: NonNegative = 0.5
    activation: Choice[ACTIVATIONS] = functools.partial(leaky_relu, slope=0.1)
    norm: Choice[NORMS] = norms.no_norm
    dropout: Fraction = 0.5
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (outputs f32 [B, h · w, 5 · boxes + K], each convolution)."""
        cells = self._grid((images.shape[1], images.shape[2]))
        how = {"norm": self.norm, "activation": self.activation, "initializer": self.initializer}
        x, intermediates, number = images, {}, 0
        for layer in PAPER if self.layers == "paper" else TINY:
            if layer is None:
                x = MaxPool(2, name=f"pool{number}")(x)
                continue
            number += 1
            kernel, channels, strides = layer
            convolution = ConvNorm(scaled(channels, self.width), kernel, strides, kernel // 2, name=f"conv{number}", **how)
            intermediates[f"conv{number}"] = x = convolution(x, train=train)
        x = flatten(x)  # [B, h, w, C] -> [B, h·w·C]
        if self.hidden:
            x = nn.Dense(scaled(self.hidden, self.width), kernel_init=self.initializer, name="hidden")(x)
            x = Dropout(self.dropout, name="dropout")(self.activation(x), train=train)
        x = nn.Dense(cells[0] * cells[1] * (BOX * self.boxes + self.classes), kernel_init=self.initializer, name=OUTPUT)(x)
        # [B, h·w·P] -> [B, h·w, P]
        return with_output(x.reshape(x.shape[0], cells[0] * cells[1], BOX * self.boxes + self.classes), intermediates)

    def head(self, image_size: tuple[int, int]) -> GridHead:
        """Returns what the outputs mean for images (H, W)."""
        return GridHead(self._grid(image_size), self.boxes, image_size, self.coordinate_weight, self.empty_weight)

    @staticmethod
    def _grid(image_size: tuple[int, int]) -> tuple[int, int]:
        """Returns the numbers of cells (h, w); raises UsageError where the sides of the image are no multiples of a cell's."""
        height, width = image_size
        if height % CELL or width % CELL:
            raise UsageError(
                f"the images are {height}x{width}, and YOLO's grid needs sides that are multiples of {CELL}.\n"
                "Give --image_size=448, or take --model=yolo_grid, which takes any size."
            )
        return height // CELL, width // CELL


CELL = 64
"""Side of a cell in pixels: both lists of layers halve the image six times."""

yolo_v1 = functools.partial(YOLOv1)
"""YOLO as published, 271,703,550 parameters for 20 classes."""
yolo_v1_tiny = functools.partial(YOLOv1, layers="tiny", hidden=0, norm=norms.batch_norm, dropout=0.0)
"""The authors' yolov1-tiny.cfg: 8 convolutions with batch norm and one dense layer, 27,095,374 parameters for 20 classes."""
