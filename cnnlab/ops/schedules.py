"""Learning-rate schedules with peak 1: `schedule(steps, …) -> (step -> multiplier)`.

The optimiser multiplies by its learning rate, so the rate itself can be a tracer (many rates from one compilation).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from cnnlab.values import Fraction, Positive, Probability

Schedule = Callable[[jax.Array], jax.Array]


def _after_warmup(decay: Callable[[int], optax.Schedule], steps: int, warmup: float) -> Schedule:
    """Rises linearly from 0 over `warmup * steps` steps, then follows `decay(remaining steps)`."""
    rise = round(steps * warmup)
    main = decay(max(1, steps - rise))
    if rise == 0:
        return main
    return optax.join_schedules([optax.linear_schedule(1.0 / (rise + 1), 1.0, rise), main], [rise])


def constant(steps: int, *, warmup: Fraction = 0.0) -> Schedule:
    """Stays at 1.

    Args:
        warmup: fraction of the steps over which the rate rises linearly.
    """
    return _after_warmup(lambda _: optax.constant_schedule(1.0), steps, warmup)


def cosine(steps: int, *, warmup: Fraction = 0.0, final: Probability = 0.0) -> Schedule:
    """Half a cosine from 1 to `final` (Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5 without restarts).

    Args:
        warmup: fraction of the steps over which the rate rises linearly.
        final: multiplier at the last step.
    """
    return _after_warmup(lambda n: optax.cosine_decay_schedule(1.0, n, alpha=final), steps, warmup)


def linear(steps: int, *, warmup: Fraction = 0.0, final: Probability = 0.0) -> Schedule:
    """A straight line from 1 to `final`.

    Args:
        warmup: fraction of the steps over which the rate rises linearly.
        final: multiplier at the last step.
    """
    return _after_warmup(lambda n: optax.linear_schedule(1.0, final, n), steps, warmup)


def step(steps: int, *, warmup: Fraction = 0.0, at: tuple[float, ...] = (0.5, 0.75), factor: Positive = 0.1) -> Schedule:
    """Multiplied by `factor` at the given fractions of training (He et al. 2016: 0.1 at 1/2 and 3/4 on CIFAR-10).

    Args:
        warmup: fraction of the steps over which the rate rises linearly.
        at: fractions of the steps at which the rate drops.
        factor: what it is multiplied by.
    """

    def decay(remaining: int) -> Schedule:
        boundaries = jnp.asarray([round(remaining * fraction) for fraction in at])
        return lambda count: jnp.asarray(factor, jnp.float32) ** jnp.sum(count >= boundaries).astype(jnp.float32)

    return _after_warmup(decay, steps, warmup)


def exponential(steps: int, *, warmup: Fraction = 0.0, final: Positive = 0.01) -> Schedule:
    """Falls by a constant factor a step, from 1 to `final`.

    Args:
        warmup: fraction of the steps over which the rate rises linearly.
        final: multiplier at the last step.
    """

    def decay(remaining: int) -> Schedule:
        return lambda count: jnp.exp(jnp.log(jnp.asarray(final, jnp.float32)) * jnp.minimum(count / remaining, 1.0))

    return _after_warmup(decay, steps, warmup)


def one_cycle(steps: int, *, rise: Fraction = 0.3, start: Positive = 0.04, final: Positive = 1e-4) -> Schedule:
    """Cosine up, then cosine down (Smith & Topin 2018, arXiv 1708.07120).

    Args:
        rise: fraction of the steps until the peak.
        start: multiplier at the first step.
        final: multiplier at the last step.
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
