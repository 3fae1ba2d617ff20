"""Lower bounds on log p(x) that a variational autoencoder raises, as losses of S samples of the codes of B images.

Letters in shapes: S samples, B batch, Z units of a code.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from cnnlab.ops import collectives
from cnnlab.ops.bounds import at_least
from cnnlab.values import Count, Fraction, NonNegative


@dataclasses.dataclass(frozen=True)
class ElboTerms:
    """The terms of a bound, from codes sampled for a batch; all in nats."""

    log_likelihood: jax.Array
    """log p(x | z), f32 [S, B]."""
    log_ratio: jax.Array
    """log p(z) − log q(z | x), f32 [S, B]."""
    kl: jax.Array
    """KL(q(z | x) ‖ p(z)) for each unit, in closed form, f32 [B, Z]."""


@dataclasses.dataclass(frozen=True)
class Bound:
    """A bound, and the loss that training lowers."""

    metric: str
    """Name of the metric by which runs are ranked: `elbo`, or `bound` for that of several samples."""
    samples: int
    """Number of codes sampled for each image."""
    loss: Callable[[ElboTerms, jax.Array], jax.Array]
    """(terms, share of training that is done f32 [] in (0, 1]) -> f32 []."""


def elbo(*, beta: NonNegative = 1.0, anneal: Fraction = 0.0, free_bits: NonNegative = 0.0, samples: Count = 1) -> Bound:
    """Returns −E[log p(x | z)] + β KL(q ‖ p), the KL in closed form (Kingma and Welling 2014, arXiv 1312.6114, eq. 10).

    A β other than 1 weights the KL (Higgins et al. 2017, beta-VAE); free bits leave a part of it without cost, so that units do
    not collapse early (Kingma et al. 2016, arXiv 1606.04934, eq. 15).

    Args:
        beta: weight of the KL.
        anneal: share of training over which the weight rises from 0 to beta (Bowman et al. 2016, arXiv 1511.06349).
        free_bits: nats of each unit's KL, averaged over the batch, that cost no more than they would at this value.
        samples: number of codes sampled for each image.
    """

    def loss(terms: ElboTerms, progress: jax.Array) -> jax.Array:
        # Without annealing the divisor is so small that the weight is beta from the first step on; `anneal` may be a tracer.
        rise = jnp.minimum(progress / jnp.maximum(jnp.asarray(anneal, jnp.float32), 1e-9), 1.0)
        units = collectives.global_mean(jnp.mean(terms.kl, axis=0))  # [B, Z] -> [Z]
        cost = jnp.sum(at_least(units, free_bits))
        return jnp.asarray(beta, jnp.float32) * rise * cost - jnp.mean(terms.log_likelihood)

    return Bound("elbo", samples, loss)


def importance_weighted(*, samples: Count = 50) -> Bound:
    """Returns −E[log mean_s w_s], w = p(x, z) / q(z | x) (Burda et al. 2016, arXiv 1509.00519, eq. 8).

    The bound is tighter with more samples.

    Args:
        samples: number of codes sampled for each image.
    """

    def loss(terms: ElboTerms, progress: jax.Array) -> jax.Array:
        return -jnp.mean(log_mean_exp(terms.log_likelihood + terms.log_ratio))

    return Bound("bound" if samples > 1 else "elbo", samples, loss)


def log_mean_exp(values: jax.Array) -> jax.Array:
    """Returns the log of the mean of exp over the first axis, [S, …] -> […]."""
    return jax.nn.logsumexp(values, axis=0) - math.log(values.shape[0])


BOUNDS: dict[str, Callable[..., Bound]] = {"elbo": elbo, "importance_weighted": importance_weighted}
