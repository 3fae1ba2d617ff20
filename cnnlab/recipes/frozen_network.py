"""The frozen network of synthesis: any of MODELS with weights from a file, or that of a run, with named activations."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamShapeError

from cnnlab.core import FROZEN, Array, Params, PyTree
from cnnlab.data.normalize import Normalisation, needs_images
from cnnlab.errors import UsageError
from cnnlab.inputs import unit_value
from cnnlab.interop.start import part_started_from, require_start
from cnnlab.models.own_network import as_network
from cnnlab.models.taps import kept, layer_shapes, require_layers, tapped
from cnnlab.recipes.run_network import network_of_run
from cnnlab.tasks.synthesis import FrozenNetwork

Control = Literal["none", "random_parameters"]


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A network with what it takes, before its weights are read."""

    network: nn.Module
    image_shape: tuple[int, int, int]
    """(H, W, C) of the images for which its parameters are made."""
    subtract: np.ndarray
    """The network sees (pixel − subtract) / divide of pixels in [0, 1], f32 [1, H or 1, W or 1, C or 1]."""
    divide: np.ndarray


def chosen_network(
    model: Callable[..., Any],
    *,
    init_from: str | None,
    control: Control,
    classes: int,
    normalize: Callable[[np.ndarray], Normalisation],
    side: int,
    data_dir: str | None,
) -> Chosen:
    """Returns the network of a run, where `init_from` is the folder of one, else the chosen model; UsageError without weights.

    Args:
        model: the model for a file of weights.
        init_from: file of weights, or folder of a run.
        control: random_parameters: the network keeps its initial weights.
        classes: number of classes of the model.
        normalize: normalisation that the weights of the file expect.
        side: height and width of the images for which the parameters of the model are made.
        data_dir: folder of prepared TFDS sets.
    """
    if init_from is None and control == "none":
        raise UsageError(
            "a network without weights sees nothing in a picture: --init_from is not given.\n"
            "Give a file of weights (--model=efficientnet_lite0 --init_from=FILE) or the folder of a run of classification "
            "(--init_from=RUN).\n--control=random_parameters looks through random weights, as a negative control."
        )
    require_start(init_from, control=control)
    if init_from is not None and pathlib.Path(init_from).is_dir():
        network, inputs = network_of_run(init_from, data_dir, f"--init_from={init_from}")
        if inputs.whiten is not None:
            raise UsageError(
                f"--init_from={init_from}: its images were whitened by a matrix, which fits no picture of another size.\n"
                "Expected a run with another normalisation, such as --normalize=standard."
            )
        unit = np.float32(unit_value(inputs.dtype))
        return Chosen(network, inputs.image_shape, inputs.subtract / unit, inputs.divide / unit)
    if needs_images(normalize):
        raise UsageError("--normalize: expected the fixed numbers with which the weights were trained: half, imagenet, fixed.")
    subtract, divide = normalize(np.zeros((1, 1, 1, 3), np.float32))
    shape = (side, side, 3)
    return Chosen(as_network(model(classes=classes), shape, (classes,)), shape, subtract, divide)


def frozen_network(
    chosen: Chosen, taps: Sequence[str], sizes: Sequence[tuple[int, int]], *, channels: int, average_pool: bool
) -> tuple[FrozenNetwork, Mapping[str, tuple[int, ...]]]:
    """Returns the network as the task sees it, and the shapes of the activations that it reads, at the last size.

    Args:
        chosen: the network.
        taps: names of the layers whose activations are read.
        sizes: heights and widths of the pictures that it sees.
        channels: number of their channels: as many as the network takes, or one.
        average_pool: whether pooling by maxima takes means instead.

    Raises UsageError for a layer that there is none of, and for a size that the network does not take.
    """
    wanted = chosen.image_shape[2]
    if channels not in (1, wanted):
        raise UsageError(f"the pictures have {channels} channels, and the network takes {wanted}. Expected as many, or one.")
    require_layers(taps, list(layer_shapes(chosen.network, chosen.image_shape)))

    def init(key: Array) -> PyTree:
        return dict(chosen.network.init(key, jnp.zeros((1, *chosen.image_shape), jnp.float32), train=False))

    def see(variables: PyTree, pictures: Array) -> dict[str, Array]:
        # A network of colours sees grey pictures in three equal channels: [B, h, w, 1] -> [B, h, w, C]
        pictures = jnp.broadcast_to(pictures, (*pictures.shape[:3], wanted))
        inputs = (pictures - chosen.subtract) / chosen.divide
        leaves = jax.tree.leaves(variables["params"])
        inputs = inputs.astype(leaves[0].dtype) if leaves else inputs
        return tapped(chosen.network, variables, inputs, taps, average_pool=average_pool)

    shapes: Mapping[str, tuple[int, ...]] = {}
    for size in dict.fromkeys((sizes[0], sizes[-1])):
        try:
            shapes = _seen_shapes(chosen.network, chosen.image_shape, tuple(taps), size, average_pool)
        except (ScopeParamShapeError, TypeError, ValueError) as error:
            if size == chosen.image_shape[:2]:
                raise
            height, width = chosen.image_shape[:2]
            raise UsageError(
                f"the network does not take pictures of {size[0]}x{size[1]}: {str(error).partition('. ')[0]}.\n"
                f"Its layers of a fixed size were made for {height}x{width}. Give that --image_size with --octaves=1, or read "
                "layers before them."
            ) from None
    return FrozenNetwork(init, see), shapes


@kept
def _seen_shapes(
    network: nn.Module, image_shape: tuple[int, int, int], taps: tuple[str, ...], size: tuple[int, int], average_pool: bool
) -> Mapping[str, tuple[int, ...]]:
    """Returns {name: shape without the batch axis} of the layers `taps`, with parameters made for images of another size."""

    def seen(key: Array, pictures: Array) -> dict[str, Array]:
        variables = network.init(key, jnp.zeros((1, *image_shape), jnp.float32), train=False)
        return tapped(network, variables, pictures, taps, average_pool=average_pool)

    pictures = jax.ShapeDtypeStruct((1, *size, image_shape[2]), jnp.float32)
    found = jax.eval_shape(seen, jax.eval_shape(lambda: jax.random.key(0)), pictures)
    return {name: leaf.shape[1:] for name, leaf in found.items()}


def started(chosen: Chosen, init_from: str | None) -> Callable[[Params, PyTree], tuple[Params, PyTree]] | None:
    """Returns the `Experiment.start` that gives the network its weights; None where it keeps random ones."""
    return None if init_from is None else part_started_from(init_from, into=FROZEN, model=chosen.network)
