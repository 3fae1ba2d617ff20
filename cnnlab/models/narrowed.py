"""Any network with other numbers of channels in some of its layers, as it is after channels were taken away."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.errors import UsageError
from cnnlab.models.layers import Conv
from cnnlab.models.taps import kept
from cnnlab.ops import trees, units
from cnnlab.ops.units import Found

WITH_FEATURES = (Conv, nn.Conv, nn.Dense)
"""Layers whose outputs are counted by an attribute, `features`; others have as many as their inputs."""
KNOB = "units_by_layer"


class Narrowed(nn.Module):
    """A network some of whose layers have other numbers of outputs; all else, names included, is as in the network.

    Attributes:
        inner: the network.
        layers: (pattern of a layer's path, number of its channels or units); the first that matches counts.
    """

    inner: nn.Module
    layers: tuple[tuple[str, int], ...]

    def setup(self) -> None:
        """Gives the network's parameters the names that they have without this module."""
        nn.share_scope(self, self.inner)

    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns (logits [B, K], intermediates) of images [B, H, W, C]."""
        above = len(self.path)

        def intercept(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
            module = context.module
            if context.method_name != "__call__" or not isinstance(module, WITH_FEATURES):
                return call(*args, **kwargs)
            path = "/".join(module.path[above:])
            wanted = next((count for pattern, count in self.layers if trees.matches(pattern, path)), module.features)
            changed: dict[str, Any] = {"features": wanted, **_groups(module, args[0].shape[-1])}
            if all(getattr(module, name) == value for name, value in changed.items()):
                return call(*args, **kwargs)
            # The same layer on the same parameters, with other attributes; its own call comes here again, and goes on above.
            return module.clone(parent=module.scope, **changed)(*args, **kwargs)

        with nn.intercept_methods(intercept):
            return self.inner(images, train=train)


def _groups(module: Any, channels: int) -> dict[str, int]:
    """Returns the groups of a convolution of `channels` inputs: as many as those where it has fewer than it had groups."""
    name = "groups" if isinstance(module, Conv) else "feature_group_count"
    return {name: min(getattr(module, name), channels)} if hasattr(module, name) else {}


def narrowed(network: nn.Module, texts: Sequence[str], image_shape: tuple[int, ...]) -> nn.Module:
    """Returns the network with other numbers of channels; itself for none.

    Args:
        network: `network(images, train=…) -> (logits, intermediates)`.
        texts: REGEX=NUMBER of the layers of another width.
        image_shape: (H, W, C) of its images.

    Raises UsageError for another form, a layer that there is none of, and widths that do not go together.
    """
    if not texts:
        return network
    layers = tuple(map(_layer, texts))
    paths = [_layer_of(path) for path in shapes_of(network, image_shape) if path.endswith("/kernel")]
    trees.require_match([pattern for pattern, _ in layers], paths, knob=KNOB)
    made = Narrowed(network, layers)
    try:
        shapes_of(made, image_shape)
    except Exception as error:  # of whatever in a network finds that shapes do not fit
        reason = str(error).strip().partition("\n")[0][:200]
        raise UsageError(
            f"--{KNOB}={','.join(texts)}: these numbers do not go together ({reason}).\n"
            "Layers whose channels are added, or go through a depth-wise convolution, need the same number."
        ) from error
    return made


def _layer(text: str) -> tuple[str, int]:
    return trees.valued_pattern(text, _count, form=f"--{KNOB}: {{}} is not REGEX=NUMBER, such as conv1=4.")


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def shapes_of(network: nn.Module, image_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Returns {"params/conv1/kernel": shape} of a network's variables."""
    return {path: tuple(leaf.shape) for path, leaf in trees.flatten(_variables(network, image_shape)).items()}


@kept
def _variables(network: nn.Module, image_shape: tuple[int, ...]) -> Any:
    """Returns the shapes of a network's variables for images [H, W, C]; nothing is allocated."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return jax.eval_shape(functools.partial(network.init, train=False), jax.eval_shape(lambda: jax.random.key(0)), images)


@kept
def units_of(network: nn.Module, image_shape: tuple[int, ...]) -> Found:
    """Returns the channels of a network that can go, for images [H, W, C], having checked that a network without them fits.

    Raises UsageError where the network without them would not, or cannot be followed at all.
    """

    def everything(variables: Any, images: jax.Array) -> Any:
        return network.apply(variables, images, train=False)[0]

    variables = _variables(network, image_shape)
    try:
        found = units.units_of(everything, variables, image_shape)
    except (TypeError, jax.errors.JAXTypeError, ValueError) as error:
        raise UsageError(
            f"--pruning=channels: {type(network).__name__} cannot be followed for any number of images "
            f"({str(error).strip().partition(chr(10))[0][:200]}).\n"
            "Take --pruning=magnitude."
        ) from error
    shapes = {path: np.broadcast_to(np.float32(0), leaf.shape) for path, leaf in trees.flatten(variables).items()}
    one_less = [np.arange(each.count) < (each.count > 1) for each in found.units]
    # The shapes of a network without a channel of each layer, as they follow and as such a network has them.
    widths(
        lambda texts: shapes_of(narrowed(network, texts, image_shape), image_shape),
        units.without(shapes, found.units, one_less),
    )
    return found


def widths(describe: Callable[[tuple[str, ...]], Mapping[str, tuple[int, ...]]], leaves: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns LAYER=NUMBER of the layers in which a network differs from one with these variables.

    Args:
        describe: LAYER=NUMBER of some layers -> the shapes of the network's variables with these.
        leaves: {"params/conv1/kernel": array}.

    Raises UsageError where no numbers make the network fit.
    """
    wanted = {path: tuple(np.shape(leaf)) for path, leaf in leaves.items()}
    texts: tuple[str, ...] = ()
    # A width that is computed of another, as that of squeeze-and-excitation, shows in a second round.
    for _ in range(3):
        found = dict(describe(texts))
        if found == wanted:
            return texts
        other = [path for path, shape in wanted.items() if path.endswith("/kernel") and shape[-1:] != found.get(path, ())[-1:]]
        texts = (*texts, *(f"{_layer_of(path)}={wanted[path][-1]}" for path in other))
    wrong = next(path for path in (*wanted, *found) if found.get(path) != wanted.get(path))
    raise UsageError(
        f"channels cannot go: without them {wrong} has the shape {wanted.get(wrong)}, and the network would have "
        f"{found.get(wrong)} there.\nTake --pruning=magnitude."
    )


def _layer_of(path: str) -> str:
    """Returns the path of the layer of a kernel: "params/conv1/kernel" is that of conv1."""
    return path.removeprefix("params/").removesuffix("/kernel")
