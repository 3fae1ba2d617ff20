"""The list of variations that `--augment` names, as the one function that the compiled step calls."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from cnnlab import own
from cnnlab.core import Array
from cnnlab.data.variations.examples import Examples
from cnnlab.errors import UsageError
from cnnlab.ops.keys import folded

Variation = Callable[..., Examples | Array]
"""A variation of whole examples, `f(examples, keys [B]) -> examples`, or of images alone, `f(images, keys [B]) -> images`."""
COLUMNS = ("index", "epoch")
"""Columns of the feed that a variation may ask for, by a keyword argument without a default."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Variations in their order. The only one of a list draws from the keys as they are, each of several from its own stream.

    The stream is the place in the list, below the example's key, so what a variation draws depends on the seed, the step, the
    example's index and its place in the list alone.
    """

    variations: tuple[Variation, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Returns the names of the feed's columns that a variation asks for."""
        return tuple(name for name in COLUMNS if any(name in _parameters(vary) for vary in self.variations))

    def __call__(self, examples: Examples, keys: Array, **columns: Array) -> Examples:
        """Returns the examples varied.

        Args:
            examples: the examples.
            keys: one key for each, keys [B].
            columns: the feed's columns that `columns` names, [B] each.
        """
        for stream, vary in enumerate(self.variations):
            own_keys = keys if len(self.variations) == 1 else folded(keys, stream)
            examples = _varied(vary, examples, own_keys, {name: columns[name] for name in COLUMNS if name in _parameters(vary)})
        return examples


NO_AUGMENTATION = Augmentation()


def takes_images(vary: Variation) -> bool:
    """Returns whether a variation takes images alone: its first parameter is called `images`."""
    return next(iter(_parameters(vary)), "") == "images"


def _parameters(vary: Variation) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(vary).parameters


def _varied(vary: Variation, examples: Examples, keys: Array, columns: Mapping[str, Array]) -> Examples:
    """Returns the examples after one variation; one of images alone changes every column of images by the same keys."""
    if not takes_images(vary):
        varied = vary(examples, keys, **columns)
        assert isinstance(varied, Examples)
        return varied
    return examples.with_columns({name: vary(images, keys, **columns) for name, images in examples.images.items()})


def require_variation(vary: Variation, image_shape: tuple[int, int, int]) -> None:
    """Raises UsageError unless a variation of images of a user's own file returns f32 images of the same shape.

    Args:
        vary: the variation; it is called on shapes alone.
        image_shape: (H, W, C).
    """
    if not own.is_own_object(vary) or not takes_images(vary):
        return
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    number = jax.ShapeDtypeStruct((2,), jnp.int32)
    with own.explained("--data.augment", while_=f"it is called with images f32 [B, {', '.join(map(str, image_shape))}]"):
        returned = jax.eval_shape(vary, images, keys, **dict.fromkeys(Augmentation((vary,)).columns, number))
    if getattr(returned, "shape", None) != images.shape or returned.dtype != jnp.float32:
        found = f"{returned.dtype} {list(returned.shape)}" if hasattr(returned, "shape") else type(returned).__name__
        raise UsageError(
            f"--data.augment: it returns {found} for images float32 {list(images.shape)}.\n"
            "Expected images of the same shape and type, in [0, 1]."
        )
