"""Takes a network of a user's own file as a classifier or segmenter: checks what it returns, fills in what it may leave out."""

import functools
import inspect
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab import own
from cnnlab.core import OUTPUT, Array
from cnnlab.errors import UsageError

ENDS = {1: "nn.Dense(self.classes)", 3: "nn.Conv(self.classes, (1, 1))"}
"""Last layers of a classifier and of a segmenter, by the rank of an image's logits."""
OTHER_NAMES = ("training", "is_training", "deterministic", "inference", "use_running_average")
"""Names in other programs of the argument `train`, or of its opposite."""


class Adapted(nn.Module):
    """A network that takes no `train`, or that returns logits alone, called as every other; it has the same parameters.

    Attributes:
        inner: network of the user.
        takes_train: whether its `__call__` has the argument `train`.
    """

    inner: nn.Module
    takes_train: bool

    def setup(self) -> None:
        """Gives the inner network's parameters the names that they have without this module."""
        nn.share_scope(self, self.inner)

    def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
        """Returns (logits [B, K] or [B, H, W, K], intermediates) of images [B, H, W, C]."""
        returned: Any = self.inner(images, **({"train": train} if self.takes_train else {}))
        return returned if isinstance(returned, tuple) else (returned, {OUTPUT: returned})


def as_network(network: Any, image_shape: tuple[int, int, int], *outputs: tuple[int, ...]) -> nn.Module:
    """Returns a network as `network(images, train=…) -> (logits [B, …, K], intermediates)`.

    The networks of cnnlab are returned as they are. One of a user's own file is called on shapes, in training and outside of
    it; where it does not return such logits or raises an exception, this raises UsageError before anything is compiled.

    Args:
        network: the network as the chosen function made it.
        image_shape: (H, W, C) of its images.
        outputs: shape of the logits of one image, (K,) of a classifier or (H, W, K) of a segmenter; any, where there are more.
    """
    name = type(network).__name__
    if not isinstance(network, nn.Module):
        raise UsageError(f"--model: a network is a flax.linen.Module, and this is {name}.\nSee docs/own.md for one.")
    if not own.is_own_object(type(network)):
        return network
    takes = inspect.signature(type(network).__call__).parameters
    if "train" not in takes and (other := [word for word in OTHER_NAMES if word in takes]):
        raise UsageError(
            f"--model: {name}.__call__ takes {other[0]}, which nothing sets.\n"
            "Expected `train: bool`, true in training: def __call__(self, images, *, train)."
        )
    adapted = Adapted(network, takes_train="train" in takes)
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    with own.explained(f"--model: {name}", while_=f"it is called on images [B, {', '.join(map(str, image_shape))}]"):
        returned, variables = jax.eval_shape(functools.partial(_first_call, network, "train" in takes), key, images)
        _require_logits(name, returned, outputs)
        for train in (False, True):
            jax.eval_shape(functools.partial(_later_call, adapted, train), key, variables, images)
    is_whole = adapted.takes_train and isinstance(returned, tuple)
    return network if is_whole else adapted


def _first_call(network: nn.Module, takes_train: bool, key: Array, images: Array) -> tuple[Any, Any]:
    """Returns (what the network returns, its variables)."""
    how: dict[str, Any] = {"train": False} if takes_train else {}
    return network.init_with_output(key, images, **how)


def _later_call(network: nn.Module, train: bool, key: Array, variables: Any, images: Array) -> Any:
    """Calls a network with its variables, as a task does in training and outside of it."""
    if not train:
        return network.apply(variables, images, train=False)
    state = sorted(set(variables) - {"params"})
    return network.apply(variables, images, train=True, rngs={"dropout": key}, mutable=state)


def _require_logits(name: str, returned: Any, outputs: Sequence[tuple[int, ...]]) -> None:
    """Raises UsageError unless a network returned logits [2, …, K] for two images, alone or with a dict beside them."""
    expected, last = f"[B, {', '.join(map(str, outputs[0]))}]", ENDS[len(outputs[0])]
    logits, *rest = returned if isinstance(returned, tuple) else (returned,)
    has_dict = not rest or (len(rest) == 1 and isinstance(rest[0], dict))
    if not has_dict or not isinstance(logits, jax.ShapeDtypeStruct):
        raise UsageError(
            f"--model: {name} returns {_described(returned)}.\n"
            f"Expected logits {expected}, or (logits, intermediates) with a dict of named arrays:\n"
            f'    logits = {last[:-1]}, name="{OUTPUT}")(features)\n'
            f'    return logits, {{"features": features, "{OUTPUT}": logits}}'
        )
    if logits.shape not in [(2, *shape) for shape in outputs] or not jnp.issubdtype(logits.dtype, jnp.floating):
        shape = ", ".join(["B", *map(str, logits.shape[1:])]) if logits.shape[:1] == (2,) else ", ".join(map(str, logits.shape))
        raise UsageError(
            f"--model: {name} returns {logits.dtype} [{shape}] for B images of {outputs[0][-1]} classes.\n"
            f"Expected logits, float {expected}: end with {last}, where `classes: int` is a field."
        )


def _described(returned: Any) -> str:
    """Returns what a network returned, in words."""
    if isinstance(returned, tuple):
        return f"({', '.join(map(_described, returned))})"
    return f"{returned.dtype} {list(returned.shape)}" if isinstance(returned, jax.ShapeDtypeStruct) else type(returned).__name__
