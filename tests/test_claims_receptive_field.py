"""C34: later layers respond to larger patches, exactly as large as the theory says; C16: three 3x3 see as much as one 7x7.

The theory is the layer table's; the measurement is the gradient of one unit of the real network with respect to the image.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import inspect
from cnnlab.models import MODELS
from cnnlab.models.layers import AveragePool, Conv, ConvNorm, MaxPool
from experiments.claims.c34_receptive_fields import outputs_of, positive
from tests.stages import slow_but

ARAUJO = "Araujo, Norris and Sim 2019, Computing Receptive Fields of Convolutional Neural Networks, Distill, table of networks"
RECURRENCE = "r + (k - 1) j, layer by layer along the path of the largest kernels"

PUBLISHED = [  # model, image, receptive field and padding of the last layer before space is averaged or flattened
    ("alexnet", 224, 195, None, ARAUJO),
    ("vgg16_d", 224, 212, 90, ARAUJO),
    ("googlenet", 224, 715, None, RECURRENCE),  # 907 with the average over 7x7 that follows
    ("inception_bn", 224, 699, None, ARAUJO),
    ("inception_v3", 299, 1311, 618, ARAUJO),
    ("inception_v4", 299, 2071, 998, ARAUJO),
    ("inception_resnet_v2", 299, 3039, 1482, ARAUJO),
    ("resnet18", 224, 435, None, RECURRENCE),
    ("resnet34", 224, 899, None, RECURRENCE),
    ("resnet50_v1", 224, 483, None, ARAUJO),
    ("resnet101_v1", 224, 1027, None, ARAUJO),
    ("resnet152_v1", 224, 1507, None, ARAUJO),
    ("mobilenet_v1", 224, 315, None, ARAUJO),
]
"""The stride is 32 in all of them. Where the padding is None, the source pads as TensorFlow does and the model as torch."""


def spatial(model: nn.Module, side: int) -> list[inspect.Layer]:
    """The layers that still have positions; a pooling over all of the image is not one of them."""
    rows = inspect.layers(model, (side, side, 3))
    return [row for row in rows if len(row.output) == 3 and row.output[0] > 1]


@pytest.mark.parametrize(
    ("name", "side", "size", "padding", "source"),
    slow_but(PUBLISHED, "alexnet", "vgg16_d", "googlenet", "inception_bn", "resnet18", "resnet50_v1", "mobilenet_v1"),
)
def test_stride_receptive_field_and_padding_are_the_published_ones(name, side, size, padding, source):
    rows = spatial(MODELS[name](classes=1000, width=0.1), side)
    assert rows[-1].stride == (32, 32)
    assert [max(row.receptive_field[axis] for row in rows) for axis in (0, 1)] == [size, size], source
    assert padding in (None, -min(row.start[0] for row in rows)), source


def responds(
    model: nn.Module, layer: inspect.Layer, shape: tuple[int, ...], axis: int, position: int, lines: list[int]
) -> list:
    """Whether one position's output has a gradient with respect to each of these rows (axis 0) or columns (1).

    Each is measured where that line alone is lit: so it is the brightest in all windows, and no maximum hides it.
    """
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)
    with jax.enable_x64(True):
        variables = positive(shapes, jnp.float64)
        lit = np.zeros((len(lines), *shape))
        for image, line in zip(lit, lines, strict=True):
            np.moveaxis(image, axis, 0)[line] = 1.0

        @jax.jit
        @jax.grad
        def gradient(images: jax.Array, variables: Any) -> jax.Array:
            outputs = jnp.moveaxis(outputs_of(model, variables, images, frozenset({layer.name}))[layer.name], 1 + axis, 1)
            return outputs[:, position].sum()

        gradients = np.moveaxis(np.asarray(gradient(jnp.asarray(lit), variables)), 1 + axis, 1)
        return [bool(gradients[image, line].any()) for image, line in enumerate(lines)]


def assert_measured_is_theory(model: nn.Module, layer: str, shape: tuple[int, ...], axis: int) -> None:
    """The gradient's support at a position in the middle begins and ends where the table says."""
    row = next(row for row in inspect.layers(model, shape) if row.name == layer)
    size, stride, start = (int(sides[axis]) for sides in (row.receptive_field, row.stride, row.start))
    position = (row.output[axis] - 1) // 2
    first = start + position * stride
    last = first + size - 1
    assert first > 0 and last + 1 < shape[axis], "the image is too small for this measurement"
    measured = responds(model, row, shape, axis, position, [first - 1, first, last, last + 1])
    assert measured == [False, True, True, False]


class Stack(nn.Module):
    """Layers one after the other; the last is named `last`."""

    parts: tuple[Any, ...]

    @nn.compact
    def __call__(self, images, *, train):
        x = images
        for number, part in enumerate(self.parts, start=1):
            name = "last" if number == len(self.parts) else f"part{number}"
            x = nn.relu(part(name=name)(x))
        return x, {}


class Residual(nn.Module):
    """Two blocks with strided shortcuts."""

    @nn.compact
    def __call__(self, images, *, train):
        x = images
        for block in (1, 2):
            y = ConvNorm(4, 3, 2, padding=1, name=f"block{block}_1")(x, train=train)
            y = ConvNorm(4, 3, padding=1, activation=lambda z: z, name=f"block{block}_2")(y, train=train)
            x = nn.relu(y + Conv(4, 1, 2, padding=0, name=f"block{block}_shortcut")(x))
        return Conv(4, 1, name="last")(x), {}


class Inception(nn.Module):
    """Two modules of parallel branches: 1x1, 3x3, 5x5, pooling, and a 1x7 followed by a 7x1."""

    @nn.compact
    def __call__(self, images, *, train):
        x = MaxPool(3, 2, padding=1, name="stem")(images)
        for number in (1, 2):
            conv = functools.partial(Conv, 3)
            narrow = conv(1, name=f"narrow{number}")(x)
            middle = conv(3, name=f"middle{number}")(narrow)
            wide = conv(5, name=f"wide{number}")(conv(1, name=f"wide{number}_1")(x))
            pooled = conv(1, name=f"pooled{number}")(MaxPool(3, 1, padding=1, name=f"pool{number}")(x))
            factorised = conv((7, 1), name=f"down{number}")(conv((1, 7), name=f"right{number}")(x)) if number == 2 else x
            x = nn.relu(jnp.concatenate([narrow, middle, wide, pooled, factorised], axis=-1))
        return AveragePool(2, name="last")(x), {}


conv, pool = functools.partial(Conv, 4), functools.partial(MaxPool, 3, 2)
NETWORKS = {
    "one 3x3": (Stack((functools.partial(conv, 3),)), 3, 3),
    "three 3x3": (Stack((functools.partial(conv, 3),) * 3), 7, 7),
    "one 7x7": (Stack((functools.partial(conv, 7),)), 7, 7),
    "seven 3x3": (Stack((functools.partial(conv, 3),) * 7), 15, 15),
    "strided": (Stack((functools.partial(conv, 3, 2, 1),) * 3), 15, 15),
    "dilated": (
        Stack((functools.partial(conv, 3), functools.partial(conv, 3, dilation=3), functools.partial(conv, 3))),
        11,
        11,
    ),
    "1x7 and 7x1": (
        Stack((functools.partial(conv, (1, 7)), functools.partial(conv, (7, 1)), functools.partial(conv, 3))),
        9,
        9,
    ),
    "1x7": (Stack((functools.partial(conv, (1, 7)), functools.partial(conv, 3))), 3, 9),
    "max pooling": (Stack((functools.partial(conv, 3), pool, functools.partial(conv, 3), pool)), 13, 13),
    "average pooling": (Stack((functools.partial(AveragePool, 2), functools.partial(conv, 5, padding=1))), 10, 10),
    "depth-wise": (
        Stack((conv_1 := functools.partial(conv, 1), functools.partial(conv, 3, 2, 1, groups=4), conv_1) * 2),
        7,
        7,
    ),
    "residual": (Residual(), 19, 19),
    "inception": (Inception(), 25, 25),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("axis", [0, pytest.param(1, marks=pytest.mark.slow)], ids=["rows", "columns"])
def test_the_gradient_of_a_unit_reaches_exactly_its_receptive_field(name, axis):
    model, *sides = NETWORKS[name]
    rows = inspect.layers(model, (64, 64, 4))
    assert next(row.receptive_field for row in rows if row.name == "last") == tuple(sides)
    assert_measured_is_theory(model, "last", (64, 64, 4), axis)


def test_three_small_kernels_see_as_much_as_a_large_one_with_fewer_parameters():
    small, large = (inspect.layers(NETWORKS[name][0], (64, 64, 4)) for name in ("three 3x3", "one 7x7"))
    assert small[-1].receptive_field == large[-1].receptive_field == (7, 7)
    biases = 4
    assert sum(row.params - biases for row in small) == 3 * 3**2 * 4**2
    assert sum(row.params - biases for row in large) == 7**2 * 4**2


def test_receptive_fields_grow_from_layer_to_layer():
    rows = [
        row for row in inspect.layers(MODELS["vgg16_d"](classes=10, width=0.1), (64, 64, 3)) if row.type in ("Conv", "MaxPool")
    ]
    sizes = [row.receptive_field[0] for row in rows]
    assert sizes == [3, 5, 6, 10, 14, 16, 24, 32, 40, 44, 60, 76, 92, 100, 132, 164, 196, 212]


DEEP = [  # model, rows or columns, other side of the image
    ("alexnet", 0, 64),
    ("vgg16_d", 0, 32),
    ("squeezenet1_1", 0, 32),
    ("mobilenet_v1", 0, 32),
    ("mobilenet_v2", 0, 32),
    ("resnet18", 0, 32),
    ("resnet50_v1", 1, 32),
    ("preact_resnet50", 0, 32),
    ("cifar_resnet20", 0, 32),
    ("densenet121", 0, 32),
    ("googlenet_bn", 0, 32),
    ("inception_v3", 0, 80),
]


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize(("name", "axis", "other"), DEEP)
def test_the_gradient_of_the_last_layer_of_published_networks_reaches_exactly_its_receptive_field(name, axis, other):
    model = MODELS[name](classes=10, width=0.1)
    rows = [row for row in inspect.layers(model, (512, 512, 3)) if len(row.output) == 3 and row.stride[axis]]
    layer = max(rows, key=lambda row: row.receptive_field[axis])
    side = 32 * (int(layer.receptive_field[axis]) // 32 + 5)
    shape = (side, other, 3) if axis == 0 else (other, side, 3)
    assert_measured_is_theory(model, layer.name, shape, axis)
