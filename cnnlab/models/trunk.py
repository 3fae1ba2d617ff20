"""Any network of classification as a trunk: all of it but its last layer, with the same names of the layers.

So what a pretext task trains can be read as weights of that network (interop/files.weights_of), whatever head it had.

Letters in shapes: B batch, H W space, C channels, F features.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab import own
from cnnlab.core import OUTPUT, TRUNK
from cnnlab.errors import UsageError
from cnnlab.models.own_network import as_network
from cnnlab.models.taps import kept
from cnnlab.ops import trees


def trunk_of(model: Callable[..., Any], image_shape: tuple[int, int, int]) -> nn.Module:
    """Returns a network of MODELS, or of a user's own file, that `without_output` can call.

    Args:
        model: the network with its knobs filled in.
        image_shape: (H, W, C) of its images.

    Raises UsageError where no layer with parameters comes before the one called `output`, or where no layer has that name.
    """
    network = model(classes=0)
    name, is_own = type(network).__name__, own.is_own_object(type(network))
    if is_own:  # layers of 0 units have no initial values
        network, other = (as_network(model(classes=classes), image_shape, (classes,)) for classes in (1, 2))
    features, params = _shapes(network, image_shape)
    if is_own and features != _shapes(other, image_shape)[0]:
        raise UsageError(
            f"--model: {name} has no layer called {OUTPUT!r}, before which its features could be taken.\n"
            f'Name its last layer: nn.Dense(self.classes, name="{OUTPUT}").'
        )
    if not params:
        raise UsageError(
            f"--model: {name} has no layer before its last one, so nothing would be learnt.\nTake another, such as convnet."
        )
    return network


def without_output(network: nn.Module, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Calls a network without its last layer, called `output`: (features [B, F], intermediates) of images [B, H, W, C].

    To be called inside a module. What comes after the last layer, such as the mean of SqueezeNet, is done to the features.
    """
    last = (*network.path, OUTPUT)

    def intercept(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        is_last = context.module.path == last and context.method_name == "__call__"
        return args[0] if is_last else call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        returned: tuple[jax.Array, dict[str, jax.Array]] = network(images, train=train)
    return returned


def require_same_weights(trunk: nn.Module, image_shape: tuple[int, int, int], piece_shape: tuple[int, int, int]) -> None:
    """Raises UsageError where a trunk has other shapes of weights for pieces of an image than for whole images.

    No network of whole images could start from its weights then.

    Args:
        trunk: a network of `trunk_of`.
        image_shape: (H, W, C) of the images.
        piece_shape: (h, w, C) of the pieces.
    """
    whole, parts = (_shapes(trunk, shape)[1] for shape in (image_shape, piece_shape))
    if other := next((path for path, shape in parts.items() if whole.get(path) != shape), None):
        raise UsageError(
            f"--model: the layer {other.rpartition('/')[0]} of {type(trunk).__name__} has a size for pieces of "
            f"{piece_shape[0]}x{piece_shape[1]} that does not fit images of {image_shape[0]}x{image_shape[1]}, so no network "
            "of whole images could start from it.\nTake one that ends in a mean over the positions, such as --model=convnet or "
            "--model=cifar_resnet20."
        )


@kept
def _shapes(trunk: nn.Module, image_shape: tuple[int, int, int]) -> tuple[tuple[int, ...], dict[str, tuple[int, ...]]]:
    """Returns the shapes of a trunk for images [H, W, C]: (of the features of one image, {path: of a parameter})."""
    images, key = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32), jax.eval_shape(lambda: jax.random.key(0))
    (features, _), variables = jax.eval_shape(lambda k, x: _Bare(trunk).init_with_output(k, x, train=False), key, images)
    params = trees.flatten(variables.get("params", {}).get(TRUNK, {}))
    return features.shape, {path: leaf.shape for path, leaf in params.items()}


class _Bare(nn.Module):
    """A trunk without a head, of which only the shapes are asked for."""

    trunk: nn.Module

    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        return without_output(self.trunk, images, train=train)
