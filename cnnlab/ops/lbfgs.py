"""L-BFGS, which learns the curvature of the loss from its last gradients; for full batches and few parameters."""

from typing import Any

import jax.numpy as jnp
import optax

from cnnlab.ops.schedules import SCHEDULES, constant
from cnnlab.values import Choice, Count, Positive


def lbfgs(
    *,
    steps: int,
    lr: Positive = 1.0,
    schedule: Choice[SCHEDULES] = constant,
    memory: Count = 10,
    line_steps: Count = 20,
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS with a line search under the strong Wolfe conditions (Nocedal and Wright 2006, algorithms 7.5, 3.5 and 3.6).

    The line search evaluates the loss of the same batch a few times a step. The noise of small batches spoils the curvature
    that it learns, so it is for --batch_size=none, the whole training split in every step.

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        lr: factor on the step that the line search finds, at the peak of the schedule.
        schedule: that factor over training, as a fraction of its peak.
        memory: number of last steps whose gradients describe the curvature.
        line_steps: most evaluations of the loss and its gradient in a line search.
    """
    # The guess of 1 is the step of Newton's method, which is right near the minimum.
    search = optax.scale_by_zoom_linesearch(max_linesearch_steps=line_steps, initial_guess_strategy="one")
    factor, inner = schedule(steps), optax.lbfgs(memory_size=memory, linesearch=search)
    optimizer = optax.chain(inner, optax.scale_by_schedule(lambda count: lr * factor(count)))

    def update(
        gradient: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        value: Any,
        value_fn: Any,
        penalty: Any = None,
        **extra: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        # The gradient holds that of the penalty already (regularizers.penalties); the values of the loss do not.
        added = penalty or (lambda weights: jnp.zeros_like(value))
        searched: tuple[optax.Updates, optax.OptState] = optimizer.update(
            gradient,
            state,
            params,
            value=value + added(params),
            grad=gradient,
            value_fn=lambda weights, **_: value_fn(weights) + added(weights),
        )
        return searched

    return optax.GradientTransformationExtraArgs(optimizer.init, update)
