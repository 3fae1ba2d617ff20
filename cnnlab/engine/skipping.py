"""Steps whose loss or gradients are not finite: left out inside the step, and counted outside of it.

A step is left out whole. Where any player's loss or gradient of the global batch is not finite, the state after the step is the
state before it, one step on: parameters, model state such as batch statistics, optimiser state and averages. Hence a schedule
counts the steps that were taken. `optax.apply_if_finite` keeps the parameters alone, so one bad batch would leave batch
statistics that are not finite. The next step has other examples and another key.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, PyTree, Stats, TrainState
from cnnlab.engine import loss_scaling

KEY = "left out"
"""Name, among the sums of a step's statistics, of f32 []: 1 where the step was left out, else 0."""


def all_finite(tree: PyTree) -> Array:
    """Returns whether every number of a tree is finite, bool []."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def unless_finite(is_finite: Array, after: TrainState, before: TrainState) -> TrainState:
    """Returns the state after a step where `is_finite`, else the state before it with the number of the next step."""
    kept = dataclasses.replace(before, step=after.step)
    # The key is the same in both. A select, since batched runs choose each for itself.
    chosen = jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), _without_key(after), _without_key(kept))
    return dataclasses.replace(chosen, key=before.key)


def _without_key(state: TrainState) -> TrainState:
    return dataclasses.replace(state, key=jnp.zeros((), jnp.int32))


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """The steps that a run left out so far; all 0 for a run that leaves none out."""

    total: int = 0
    """Number of them since the start of the run."""
    in_a_row: int = 0
    """Number of them without a step in between, up to the latest step."""
    longest: int = 0
    """Largest such number that there was."""
    scale: float | None = None
    """Loss scale of the latest step (loss_scaling.py); None without one."""

    def notes(self) -> list[float]:
        """Returns the fields that a checkpoint keeps, in their order; [] where it needs none."""
        kept: list[float] = [self.total, self.in_a_row]
        return [*kept, 0, self.scale] if self.scale is not None else kept if self.total else []

    def after(self, parts: Sequence[Stats]) -> tuple["LeftOut", list[Stats]]:
        """Returns (the same after further steps, their statistics without those of steps that were left out).

        Args:
            parts: fetched statistics in the order of the steps, whose sums are [k, …] for k steps.
        """
        total, in_a_row, longest, scale, kept = self.total, self.in_a_row, self.longest, self.scale, []
        for part in parts:
            if KEY not in part["sums"]:  # of a run that leaves nothing out, or those that a checkpoint kept
                kept.append(part)
                continue
            flags = np.asarray(part["sums"][KEY]) > 0  # [k]
            for is_left_out in flags.tolist():
                in_a_row = in_a_row + 1 if is_left_out else 0
                total, longest = total + is_left_out, max(longest, in_a_row)
            if loss_scaling.KEY in part["sums"]:
                scale = float(part["sums"][loss_scaling.KEY][-1])
            if not flags.all():
                of_steps = {name: value for name, value in part["sums"].items() if name not in (KEY, loss_scaling.KEY)}
                kept.append({**part, "sums": {name: np.asarray(value)[~flags] for name, value in of_steps.items()}})
        return LeftOut(total, in_a_row, longest, scale), kept
