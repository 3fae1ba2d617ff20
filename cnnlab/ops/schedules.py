"""Learning-rate schedules with peak 1: `schedule(steps, …) -> (step -> multiplier)`.

`steps` is the length of training, and `step` counts from 0. The optimiser multiplies the result by its learning rate, which
can therefore be a tracer (many rates from one compilation).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from cnnlab.values import Fraction, Positive, Probability

Schedule = Callable[[jax.Array], jax.Array]


def _after_warmup(decay: Callable[[int], optax.Schedule], steps: int, warmup: float) -> Schedule:
    """Returns a linear rise from near 0 to 1 over `warmup * steps` steps, followed by `decay(remaining steps)`."""
    rise = round(steps * warmup)
    main = decay(max(1, steps - rise))
    if rise == 0:
        return main
    return optax.join_schedules([optax.linear_schedule(1.0 / (rise + 1), 1.0, rise), main], [rise])


def constant(steps: int, *, warmup: Fraction = 0.0) -> Schedule:
    """Keeps the learning rate at its peak.

    Args:
        warmup: fraction of the steps over which the rate first rises linearly to its peak.
    """
    return _after_warmup(lambda _: optax.constant_schedule(1.0), steps, warmup)


def cosine(steps: int, *, warmup: Fraction = 0.0, final: Probability = 0.0) -> Schedule:
    """Falls along half a cosine from 1 to `final` (Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5 without restarts).

    Args:
        warmup: fraction of the steps over which the rate first rises linearly to its peak.
        final: multiplier of the rate after the last step.
    """
    return _after_warmup(lambda n: optax.cosine_decay_schedule(1.0, n, alpha=final), steps, warmup)


def linear(steps: int, *, warmup: Fraction = 0.0, final: Probability = 0.0) -> Schedule:
    """Falls linearly from 1 to `final`.

    Args:
        warmup: fraction of the steps over which the rate first rises linearly to its peak.
        final: multiplier of the rate after the last step.
    """
    return _after_warmup(lambda n: optax.linear_schedule(1.0, final, n), steps, warmup)


def step(steps: int, *, warmup: Fraction = 0.0, at: tuple[float, ...] = (0.5, 0.75), factor: Positive = 0.1) -> Schedule:
    """Multiplies the rate by `factor` at given points of training (He et al. 2016: 0.1 at 1/2 and 3/4 on CIFAR-10).

    Args:
        warmup: fraction of the steps over which the rate first rises linearly to its peak.
        at: points at which the rate drops, as fractions of the steps that follow the warm-up.
        factor: number by which the rate is multiplied at each of these points.
    """

    def decay(remaining: int) -> Schedule:
        boundaries = jnp.asarray([round(remaining * fraction) for fraction in at])
        return lambda count: jnp.asarray(factor, jnp.float32) ** jnp.sum(count >= boundaries).astype(jnp.float32)

    return _after_warmup(decay, steps, warmup)


def exponential(steps: int, *, warmup: Fraction = 0.0, final: Positive = 0.01) -> Schedule:
    """Falls by a constant factor at every step, from 1 to `final`.

    Args:
        warmup: fraction of the steps over which the rate first rises linearly to its peak.
        final: multiplier of the rate after the last step.
    """

    def decay(remaining: int) -> Schedule:
        return lambda count: jnp.exp(jnp.log(jnp.asarray(final, jnp.float32)) * jnp.minimum(count / remaining, 1.0))

    return _after_warmup(decay, steps, warmup)


def one_cycle(steps: int, *, rise: Fraction = 0.3, start: Positive = 0.04, final: Positive = 1e-4) -> Schedule:
    """Rises along half a cosine, then falls along another (Smith & Topin 2018, arXiv 1708.07120).

    Args:
        rise: fraction of the steps before the peak.
        start: multiplier of the rate at the first step.
        final: multiplier of the rate after the last step.
    """
    return optax.cosine_onecycle_schedule(steps, 1.0, rise, 1.0 / start, start / final)


SCHEDULES = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "step": step,
    "exponential": exponential,
    "one_cycle": one_cycle,
}
