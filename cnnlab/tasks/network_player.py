"""A network that one player trains, of which some layers may stay as they start: what tasks with one network share."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from cnnlab.core import FROZEN, OUTPUT, Array, Batch, Params, PyTree
from cnnlab.errors import UsageError
from cnnlab.ops import trees
from cnnlab.ops.precision import at_least_f32

FEATURES = "features"
"""Word among `frozen` that stands for every layer but the last."""


@dataclasses.dataclass(frozen=True)
class NetworkPlayer:
    """A network and the player who moves its layers; frozen ones belong to a player that never moves.

    The batch norms of frozen layers use and keep their running statistics.
    """

    network: nn.Module
    """`network(images, train=…) -> (outputs, intermediates)`; its collections other than `params` become the model state, and
    it may use the random stream `dropout`."""
    player: str
    frozen: tuple[str, ...] = ()
    """Regular expressions of the layers that stay as they start (trees.matches); `features`: all but the last."""

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        """Implements core.Task.init."""
        variables = dict(self.network.init(key, batch["image"][:1], train=False))
        params = variables.pop("params", {})
        if not self.frozen:
            return {self.player: params}, variables
        trees.require_match(self._patterns, trees.flatten(params), knob="frozen")
        stay, move = trees.partition(params, self._is_frozen)
        if not move:
            raise UsageError("--frozen leaves no layer to train. Leave one out, or evaluate instead of training.")
        return {self.player: move, FROZEN: stay}, variables

    def train(
        self, params: Params, model_state: PyTree, images: Array, key: Array, **told: Any
    ) -> tuple[tuple[Any, Any], PyTree]:
        """Returns ((outputs, intermediates), new model state) of images [B, H, W, C] in training.

        Args:
            params: of the players.
            model_state: of the network.
            images: of the batch.
            key: of the dropout.
            told: further keyword arguments of the network, such as the objects of the images.
        """
        # Without frozen layers nothing is intercepted, so that the program is that of the plain network.
        with running_statistics(self._is_frozen) if self.frozen else contextlib.nullcontext():
            returned, updated = self.network.apply(
                {"params": joined(params), **model_state},
                images,
                train=True,
                **told,
                rngs={"dropout": key},
                mutable=sorted(model_state),
            )
        return returned, dict(updated)

    def evaluate(self, params: Params, model_state: PyTree, images: Array, **told: Any) -> tuple[Any, Any]:
        """Returns (outputs, intermediates) of images [B, H, W, C], with nothing updated; `told` as in `train`."""
        returned: tuple[Any, Any] = self.network.apply({"params": joined(params), **model_state}, images, train=False, **told)
        return returned

    @functools.cached_property
    def _patterns(self) -> list[str]:
        return [f"(?!{OUTPUT}(?:/|$)).*" if pattern == FEATURES else pattern for pattern in self.frozen]

    def _is_frozen(self, path: str) -> bool:
        """Returns whether one of the regular expressions matches the path of a layer."""
        return any(trees.matches(pattern, path) for pattern in self._patterns)


def auxiliary_logits(intermediates: Mapping[str, Array]) -> list[Array]:
    """Returns the logits f32 of a network's auxiliary heads: the intermediates whose name begins with `auxiliary`."""
    return [at_least_f32(intermediates[name]) for name in sorted(intermediates) if name.startswith("auxiliary")]


def joined(params: Params) -> PyTree:
    """Returns a network's parameters, whichever player owns them."""
    owned = list(params.values())
    return owned[0] if len(owned) == 1 else trees.join(owned)


def running_statistics(is_frozen: Callable[[str], bool]) -> contextlib.AbstractContextManager:
    """Returns a context in which the batch norms of frozen layers normalise by, and keep, their running statistics."""

    def intercept(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        # A batch norm is recognised by its running statistics; every one in models/ takes `train`.
        normalises = "train" in kwargs and context.module.has_variable("batch_stats", "mean")
        if normalises and is_frozen("/".join(context.module.path)):
            kwargs = {**kwargs, "train": False}
        return call(*args, **kwargs)

    return nn.intercept_methods(intercept)
