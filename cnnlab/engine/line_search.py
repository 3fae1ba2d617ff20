"""The loss of a turn as a function of the player's parameters, for optimisers that evaluate it again, such as L-BFGS.

It is the loss of the global batch with the noise and the model state of the step itself, so a line search compares like with
like. An optimiser that does not call it costs nothing.
"""

from collections.abc import Callable
from typing import Any

import jax

from cnnlab.core import Array, Batch, PyTree
from cnnlab.engine import loss_scaling
from cnnlab.engine.accumulation import GradientOf, LossOf
from cnnlab.ops import collectives


def value_function(
    gradient_of: GradientOf, loss_of: LossOf, model_state: PyTree, batch: Batch, key: Array, loss_scale: dict[str, Array]
) -> Callable[[PyTree], Array]:
    """Returns the function of a player's own parameters that is its loss f32 [], and can be differentiated once.

    Args:
        gradient_of: how a batch's loss and gradient are computed, whole or in parts.
        loss_of: the player's loss.
        model_state: model state before the turn.
        batch: the step's batch.
        key: the turn's key.
        loss_scale: state of the loss scaling.
    """

    def evaluated(own: PyTree) -> tuple[Array, Any]:
        loss, gradient, *_ = gradient_of(loss_of, own, model_state, batch, key)
        value: tuple[Array, Any] = loss_scaling.unscaled(collectives.global_mean((loss, gradient)), loss_scale)
        return value

    # The gradient is given: under pmap the derivative of a mean over devices would be that of the device's own part.
    @jax.custom_vjp
    def value(own: PyTree) -> Array:
        return evaluated(own)[0]

    value.defvjp(evaluated, lambda gradient, cotangent: (jax.tree.map(lambda leaf: cotangent * leaf, gradient),))
    return value
