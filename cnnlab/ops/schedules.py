"""Learning-rate schedules with peak 1: `schedule(steps, …) -> (step -> multiplier)`.

`steps` is the length of training, and `step` counts from 0 to steps − 1, the last step, at which a schedule has its final
value. The optimiser multiplies the result by its learning rate, which can therefore be a tracer (many rates from one
compilation).
"""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from cnnlab.errors import UsageError
from cnnlab.values import Fraction, Positive, Probability

Schedule = Callable[[jax.Array], jax.Array]


def _after_warmup(decay: Callable[[jax.Array], jax.Array], steps: int, warmup: float) -> Schedule:
    """Returns a linear rise from near 0 to 1 over `warmup * steps` steps, then `decay`: progress from 0 to 1 -> multiplier.

    Progress is 0 at the peak and 1 at the last step and later. Where a single step is left, it is at the peak.
    """
    rise, last = _rise(steps, warmup), max(steps - 1, 0)

    def schedule(count: jax.Array) -> jax.Array:
        value = decay(jnp.clip((count - rise) / max(last - rise, 1), 0.0, 1.0))
        return jnp.where(count < rise, (count + 1) / (rise + 1), value) if rise else value

    return schedule


def _rise(steps: int, warmup: float) -> int:
    """Returns the number of warm-up steps; at least the last step of training comes after them."""
    return max(min(round(steps * warmup), steps - 1), 0)


def _require_points(at: Sequence[float]) -> None:
    """Raises UsageError unless the points of training that a knob gives are growing fractions of it."""
    if not all(0 <= point < 1 for point in at) or any(late <= early for early, late in itertools.pairwise(at)):
        raise UsageError(
            f"--at={','.join(f'{point:g}' for point in at)}: expected fractions of the whole training, each in [0, 1) and "
            "larger than the one before.\nStep 100 of 400 is written 0.25."
        )


def constant(steps: int, *, warmup: Fraction = 0.0) -> Schedule:
    """Keeps the learning rate at its peak.

    Args:
        warmup: fraction of the steps over which the rate first rises linearly to its peak.
    """
    return _after_warmup(jnp.ones_like, steps, warmup) if _rise(steps, warmup) else optax.constant_schedule(1.0)


def cosine(steps: int, *, warmup: Fraction = 0.0, final: Probability = 0.0) -> Schedule:
    """Falls along half a cosine from 1 to `final` (Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5 without restarts).

    Args:
        warmup: fraction of the steps over which the rate first rises linearly to its peak.
        final: multiplier of the rate at the last step, which changes nothing if it is 0; a training of one step is at the peak.
    """
    return _after_warmup(lambda progress: _half_cosine(progress, final), steps, warmup)


def _half_cosine(progress: jax.Array, final: float) -> jax.Array:
    """Returns the multiplier between 1 and `final` at a progress from 0 to 1, and `final` after it."""
    return final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))


def warm_restarts(steps: int, *, at: tuple[float, ...] = (0.5,), final: Probability = 0.0) -> Schedule:
    """Falls along half a cosine again and again, each time from 1 to `final` (Loshchilov & Hutter 2017, eq. 5).

    Args:
        at: points at which it begins anew, as growing fractions of the whole training; one that leaves a part of less than two
            steps is left out.
        final: multiplier of the rate at the last step of each part; a training of one step is at the peak.
    """
    _require_points(at)
    begins = [0]
    for begin in (round(steps * fraction) for fraction in at):
        begins += [begin] if begin - begins[-1] > 1 and steps - begin > 1 else []
    lengths = [end - begin for begin, end in zip(begins, [*begins[1:], max(steps, 1)], strict=True)]

    def schedule(count: jax.Array) -> jax.Array:
        part = jnp.sum(count >= jnp.asarray(begins, jnp.int32)) - 1
        begin, length = (jnp.asarray(numbers, jnp.int32)[part] for numbers in (begins, lengths))  # [parts] at [] -> []
        return _half_cosine((count - begin) / jnp.maximum(length - 1, 1), final)

    return schedule


def linear(steps: int, *, warmup: Fraction = 0.0, final: Probability = 0.0) -> Schedule:
    """Falls linearly from 1 to `final`.

    Args:
        warmup: fraction of the steps over which the rate first rises linearly to its peak.
        final: multiplier of the rate at the last step, which changes nothing if it is 0; a training of one step is at the peak.
    """
    return _after_warmup(lambda progress: 1.0 + (final - 1.0) * progress, steps, warmup)


def step(steps: int, *, warmup: Fraction = 0.0, at: tuple[float, ...] = (0.5, 0.75), factor: Positive = 0.1) -> Schedule:
    """Multiplies the rate by `factor` at given points of training (He et al. 2016: 0.1 at 1/2 and 3/4 on CIFAR-10).

    Args:
        warmup: fraction of the steps over which the rate first rises linearly to its peak.
        at: points at which the rate drops, as growing fractions of the whole training, the warm-up included; one that lies
            within the warm-up takes effect at its end. Without a warm-up the first step is always at the peak.
        factor: number by which the rate is multiplied at each of these points.
    """
    _require_points(at)
    rise = _rise(steps, warmup)
    boundaries = [max(round(steps * fraction), 1) for fraction in at]

    def schedule(count: jax.Array) -> jax.Array:
        drops = jnp.sum(count >= jnp.asarray(boundaries, jnp.int32)).astype(jnp.float32)
        dropped = jnp.asarray(factor, jnp.float32) ** drops
        return jnp.where(count < rise, (count + 1) / (rise + 1), dropped) if rise else dropped

    return schedule


def exponential(steps: int, *, warmup: Fraction = 0.0, final: Positive = 0.01) -> Schedule:
    """Falls by a constant factor at every step, from 1 to `final`.

    Args:
        warmup: fraction of the steps over which the rate first rises linearly to its peak.
        final: multiplier of the rate at the last step, which changes nothing if it is 0; a training of one step is at the peak.
    """

    return _after_warmup(lambda progress: jnp.exp(jnp.log(jnp.asarray(final, jnp.float32)) * progress), steps, warmup)


def one_cycle(steps: int, *, rise: Fraction = 0.3, start: Positive = 0.04, final: Positive = 1e-4) -> Schedule:
    """Rises along half a cosine, then falls along another (Smith & Topin 2018, arXiv 1708.07120).

    Args:
        rise: fraction of the steps before the peak.
        start: multiplier of the rate at the first step, from three steps on; shorter trainings begin at the peak.
        final: multiplier of the rate at the last step, which changes nothing if it is 0; a training of one step is at the peak.
    """
    last = max(steps - 1, 0)
    top = max(min(round(rise * last), last - 1), 0)

    def schedule(count: jax.Array) -> jax.Array:
        up, down = (jnp.clip(part, 0.0, 1.0) for part in (count / max(top, 1), (count - top) / max(last - top, 1)))
        rising = start + (1.0 - start) * 0.5 * (1.0 - jnp.cos(jnp.pi * up))
        falling = final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * down))
        return jnp.where(count < top, rising, falling)

    return schedule


SCHEDULES = {
    "constant": constant,
    "cosine": cosine,
    "warm_restarts": warm_restarts,
    "linear": linear,
    "step": step,
    "exponential": exponential,
    "one_cycle": one_cycle,
}
