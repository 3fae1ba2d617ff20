"""The pretext tasks by name, each with its knobs: what is asked about images without labels, and the head that answers.

Letters in shapes: B batch, P pieces of an image, H W space, C channels, F features.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import Task
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec
from cnnlab.models.pieces import PieceClassifier, PieceCounter
from cnnlab.models.trunk import require_same_weights
from cnnlab.models.trunk_decoder import TrunkDecoder
from cnnlab.ops.colours import bins
from cnnlab.tasks.colourize import colourize, require_colours
from cnnlab.tasks.count import count, require_even
from cnnlab.tasks.inpaint import Region, inpaint
from cnnlab.tasks.pretext import Puzzle, solve
from cnnlab.tasks.puzzles import Colours, Turns, neighbouring_pieces, shuffled_pieces, turned_image
from cnnlab.values import Count, Fraction, NonNegative, Positive, Range

Size = Annotated[int, Range(0)]


def rotation(trunk: nn.Module, inputs: InputSpec, *, turns: Turns = "all") -> Task:
    """By how many quarter turns an image was turned (RotNet, Gidaris, Singh and Komodakis 2018, arXiv 1803.07728).

    Args:
        turns: all: each step sees every image in all four turns, as the paper found best; one: in one that is drawn.
    """
    return _answered(trunk, inputs, turned_image(inputs.image_shape, turns))


def jigsaw(
    trunk: nn.Module,
    inputs: InputSpec,
    *,
    grid: Literal[2, 3] = 3,
    permutations: Count = 64,
    gap: Fraction = 0.15,
    jitter: bool = True,
    normalize: bool = True,
    hidden: Size = 256,
) -> Task:
    """In which order the pieces of an image are (Noroozi and Favaro 2016, arXiv 1603.09246).

    Args:
        grid: cells in a row of the image, with a piece in each.
        permutations: number of orders among which the network chooses; they differ in as many places as possible.
        gap: share of a cell that lies between neighbouring pieces, whose edges would tell that they are neighbours.
        jitter: whether a piece lies anywhere in its cell; else in its middle.
        normalize: whether each piece has a mean of 0 and a standard deviation of 1 in every channel.
        hidden: units of the layer of the head before its last one; 0: there is none.
    """
    shape = inputs.image_shape
    puzzle = shuffled_pieces(shape, grid=grid, permutations=permutations, gap=gap, jitter=jitter, normalize=normalize)
    return _answered(trunk, inputs, puzzle, hidden)


def relative_position(
    trunk: nn.Module,
    inputs: InputSpec,
    *,
    gap: Fraction = 0.3,
    jitter: bool = True,
    colours: Colours = "keep",
    hidden: Size = 256,
) -> Task:
    """Where one of the eight neighbours of a piece of an image lies (Doersch, Gupta and Efros 2015, arXiv 1505.05192).

    Args:
        gap: share of a cell that lies between neighbouring pieces, whose edges would tell where one goes on in the other.
        jitter: whether a piece lies anywhere in its cell; else in its middle.
        colours: keep; drop: all channels of a piece but one become noise; project: green against magenta is taken out. Colour
            fringes of a lens tell where in the image a piece lies.
        hidden: units of the layer of the head before its last one; 0: there is none.
    """
    puzzle = neighbouring_pieces(inputs.image_shape, gap=gap, jitter=jitter, colours=colours)
    return _answered(trunk, inputs, puzzle, hidden)


def counting(trunk: nn.Module, inputs: InputSpec, *, counts: Count = 64, margin: NonNegative = 10.0) -> Task:
    """What is counted in the quarters of an image adds up to what is counted in the whole (Noroozi et al. 2017, 1708.06734).

    Args:
        counts: number of things that are counted (1,000 in the paper).
        margin: squared distance that the counts of another image shall have from that sum; 0: to count nothing is best.
    """
    require_even(inputs.image_shape)
    height, width, channels = inputs.image_shape
    require_same_weights(trunk, inputs.image_shape, (height // 2, width // 2, channels))
    return count(PieceCounter(trunk, counts), margin=margin)


def colourisation(
    trunk: nn.Module,
    inputs: InputSpec,
    *,
    cell: Literal[1, 2, 4, 8] = 4,
    uniform: Annotated[float, Range(0, 1, open_low=True)] = 0.5,
    annealing: Positive = 0.38,
    width: Count = 64,
) -> Task:
    """The colours of an image from its lightness (Zhang, Isola and Efros 2016, arXiv 1603.08511).

    Args:
        cell: side in pixels of the cells whose mean colour is predicted.
        uniform: how little more rare colours weigh in the loss: 1, not at all.
        annealing: temperature at which predicted shares of colours become one colour: 1, their mean, which is dull.
        width: channels of the decoder.
    """
    require_colours(inputs)
    network = TrunkDecoder(trunk, len(bins()), cell, width)
    _require_maps(network, inputs)
    return colourize(network, inputs, cell=cell, uniform=uniform, temperature=annealing)


def inpainting(
    trunk: nn.Module,
    inputs: InputSpec,
    *,
    region: Region = "centre",
    share: Annotated[float, Range(0, 1, open_low=True, open_high=True)] = 0.5,
    width: Count = 64,
) -> Task:
    """What is missing from an image from what is around it (context encoder, Pathak et al. 2016, arXiv 1604.07379).

    Args:
        region: where the missing square lies: centre, or anywhere in the image.
        share: its side as a share of that of the image.
        width: channels of the decoder.
    """
    if any(round(share * side) == side for side in inputs.image_shape[:2]):
        raise UsageError(f"--share={share:g}: nothing is left of an image around the hole. Take less, such as 0.5.")
    network = TrunkDecoder(trunk, inputs.image_shape[2], 1, width)
    _require_maps(network, inputs)
    return inpaint(network, inputs, region=region, share=share)


PRETEXTS: dict[str, Callable[..., Task]] = {
    "rotation": rotation,
    "jigsaw": jigsaw,
    "relative_position": relative_position,
    "counting": counting,
    "colourisation": colourisation,
    "inpainting": inpainting,
}
"""Pretext tasks by name: `pretext(trunk, inputs, *, knobs) -> Task`, of a network of models/trunk.py and what it takes."""


def _answered(trunk: nn.Module, inputs: InputSpec, puzzle: Puzzle, hidden: int = 0) -> Task:
    """Returns the task of a puzzle; UsageError where what the trunk learns of pieces does not fit whole images.

    hidden: units of a layer of the head before its last one; 0: there is none.
    """
    image, key = jax.ShapeDtypeStruct((1, *inputs.image_shape), jnp.float32), jax.eval_shape(lambda: jax.random.key(0))
    pieces, _ = jax.eval_shape(lambda images, key: puzzle.ask(images, key[None]), image, key)
    _, _, *shape = pieces.shape  # [1, P, h, w, C] -> h, w, C
    require_same_weights(trunk, inputs.image_shape, tuple(shape))
    return solve(PieceClassifier(trunk, len(puzzle.answers), puzzle.together, hidden), puzzle)


def _require_maps(network: nn.Module, inputs: InputSpec) -> None:
    """Raises UsageError where a decoder finds no map in its trunk; nothing is computed."""
    image = jax.ShapeDtypeStruct((1, *inputs.image_shape), jnp.float32)
    jax.eval_shape(lambda key, x: network.init(key, x, train=False), jax.eval_shape(lambda: jax.random.key(0)), image)
