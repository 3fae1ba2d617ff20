"""Dynamic loss scaling, by which small gradients do not vanish in float16.

float16 holds 6.1e-5 to 65504 with all its digits, and nothing below 6e-8. The loss is multiplied by a power of two before it is
differentiated, and the gradient of the f32 parameters is divided by it, which is exact. Where a gradient overflows, the step is
left out (skipping.py) and the scale halved; after PERIOD steps in a row without an overflow it is doubled (Micikevicius et al.
2018, Mixed precision training, arXiv 1710.03740, section 3.2). bfloat16 has the range of f32 and needs none of this.
"""

import dataclasses

import jax
import jax.numpy as jnp

from cnnlab.core import Array, Batch, PyTree, Stats, TrainState
from cnnlab.engine.accumulation import LossOf

SCALED = ("f16",)
"""Precisions whose losses are scaled."""
INITIAL, LARGEST, PERIOD = 2.0**16, 2.0**24, 2000
"""First and largest scale, and the number of steps in a row after which it is doubled, as in NVIDIA's apex.amp."""
SMALLEST = 1.0
"""Smallest scale: where steps overflow with it, the loss itself or the network does."""
IN_A_ROW = 32
"""Number of steps in a row that may be left out where --skip_nonfinite does not say: 24 of them bring the scale from its
largest value to its smallest."""
KEY = "loss scale"
"""Name, among the sums of a step's statistics, of f32 []: the scale with which its gradients were computed."""


def initial(precision: str) -> dict[str, Array]:
    """Returns the state of the scale before the first step; {} for a precision whose losses are not scaled."""
    return {"scale": jnp.float32(INITIAL), "good_steps": jnp.int32(0)} if precision in SCALED else {}


def scaled(loss_of: LossOf, state: dict[str, Array]) -> LossOf:
    """Returns the loss multiplied by the scale, whose statistics are those of the loss itself; the same function for {}."""

    def scaled_loss(own: PyTree, model_state: PyTree, batch: Batch, key: Array) -> tuple[Array, tuple[PyTree, Stats]]:
        loss, more = loss_of(own, model_state, batch, key)
        return loss.astype(jnp.float32) * state["scale"], more

    return scaled_loss if state else loss_of


def unscaled(tree: PyTree, state: dict[str, Array]) -> PyTree:
    """Returns a loss and gradients, f32, divided by the scale; as they are for {}."""
    return jax.tree.map(lambda leaf: leaf / state["scale"], tree) if state else tree


def measured(state: dict[str, Array]) -> dict[str, Array]:
    """Returns the scale as one of a step's sums; {} without one."""
    return {KEY: state["scale"]} if state else {}


def adjusted(state: TrainState, is_finite: Array) -> TrainState:
    """Returns the state after a step with the scale of the next one.

    Args:
        state: state after the step, with the scale of the step itself; without a scale it is returned as it is.
        is_finite: whether the loss and the gradients of all players are finite, bool [].
    """
    if not state.loss_scale:
        return state
    scale, good_steps = state.loss_scale["scale"], state.loss_scale["good_steps"] + 1
    is_due = good_steps >= PERIOD
    grown = jnp.where(is_due, jnp.minimum(2 * scale, LARGEST), scale)
    scale = jnp.where(is_finite, grown, jnp.maximum(scale / 2, SMALLEST))
    return dataclasses.replace(state, loss_scale={"scale": scale, "good_steps": jnp.where(is_finite & ~is_due, good_steps, 0)})
