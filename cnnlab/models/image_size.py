"""Checks that images are large enough for a network, and finds the smallest size that is."""

import contextvars
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.errors import UsageError


class TooSmall(UsageError):
    """Raised by a layer whose input is smaller than its window; `checks_image_size` adds the smallest image that works."""


def require_size(x: jax.Array, size: int, *, layer: str, smallest: int, image: tuple[int, ...]) -> None:
    """Raises UsageError where a layer's input is smaller than the layer needs.

    Args:
        x: input of the layer, [B, H, W, C].
        size: height and width that the layer needs at least, in pixels.
        layer: name of the layer, for the message.
        smallest: side of the smallest image that the network takes, in pixels.
        image: shape of the network's own input, [B, H, W, C].
    """
    height, width = x.shape[1:3]
    if min(height, width) < size:
        raise UsageError(
            f"the image of {image[1]}x{image[2]} is too small: {layer} needs {size}x{size} and gets {height}x{width}.\n"
            f"The smallest image for this network is {smallest}x{smallest}. Enlarge the images, or take another model."
        )


_searching: contextvars.ContextVar[bool] = contextvars.ContextVar("searching", default=False)
"""Whether `smallest_image` is tracing the network, which then lets TooSmall pass."""

LARGEST = 1024
"""Side in pixels of the largest image that the search for the smallest one tries."""


def checks_image_size(call: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a model's `__call__` (below nn.compact): an error about an image that is too small names the smallest size."""

    @functools.wraps(call)
    def checked(self: nn.Module, images: jax.Array, *, train: bool, **told: Any) -> Any:
        try:
            return call(self, images, train=train, **told)
        except TooSmall as error:
            if _searching.get():
                raise
            smallest = smallest_image(self, images.shape[-1])
            raise UsageError(
                f"the image of {images.shape[1]}x{images.shape[2]} is too small: {error}\n"
                f"The smallest image for this network is {smallest}x{smallest}. Enlarge the images (--image_size), or take "
                "another model."
            ) from None

    return checked


def smallest_image(model: nn.Module, channels: int) -> int:
    """Side in pixels of the smallest square image that a model takes; found by tracing shapes, nothing is computed.

    The search traces the network about 15 times (8 to 11 CPU seconds for Inception-v3), so its result is kept for each
    model and number of channels. A model with a tracer among its attributes cannot be hashed and is searched each time.
    """
    fresh = model.clone(parent=None)  # only a module outside any scope can be hashed and initialised
    try:
        return _smallest(fresh, channels)
    except TypeError:
        return _smallest.__wrapped__(fresh, channels)


@functools.lru_cache(maxsize=256)
def _smallest(model: nn.Module, channels: int) -> int:
    def fits(side: int) -> bool:
        images = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
        try:
            jax.eval_shape(functools.partial(model.init, train=False), jax.eval_shape(lambda: jax.random.key(0)), images)
        except TooSmall:
            return False
        return True

    token = _searching.set(True)
    try:
        # Doubling finds an interval (low, high] whose upper end fits; bisection then shrinks it to one size.
        low, high = 0, 1
        while not fits(high) and high < LARGEST:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        return high
    finally:
        _searching.reset(token)
