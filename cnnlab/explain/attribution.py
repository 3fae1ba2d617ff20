"""Attributions by gradients at the pixels: which pixels the score of a class depends on.

Every method is a function `(network, images, target) -> maps [B, H, W]`. The score is the logit of the target class. Images are
normalised, as the network sees them, and the baseline of integrated gradients is 0 there: the mean colour of the training
images where these were normalised by their statistics. What runs many times is compiled once and called in a loop on the host,
since a convolution inside a compiled loop is 5 to 7 times slower on a CPU.

Letters in shapes: B images, H W space, C channels, K classes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array
from cnnlab.explain.network import Network
from cnnlab.explain.program import Rule

STEPS = 50
"""Steps of integrated gradients, as captum takes by default."""
SAMPLES = 25
"""Noisy copies of SmoothGrad (Smilkov et al. 2017, section 3.2, take 50 and see little change beyond)."""
NOISE = 0.15
"""Standard deviation of SmoothGrad's noise as a share of an image's range; the paper takes 0.1 to 0.2."""


def target_scores(logits: Array, target: Array) -> Array:
    """Returns the score [B] of each image's target class; logits [B, K], target i32 [B]."""
    return jnp.take_along_axis(logits, target[:, None], axis=1)[:, 0]  # [B, K] at [B, 1] -> [B]


@functools.partial(jax.jit, static_argnames="rule")
def gradient(network: Network, images: Array, target: Array, rule: Rule = "plain") -> Array:
    """Returns the gradient [B, H, W, C] of each image's score; `rule` is that of the ReLUs on the way back."""
    # Examples do not depend on each other outside of training, so the gradient of the sum holds that of each.
    return jax.grad(lambda x: jnp.sum(target_scores(network.logits(x, rule=rule), target)))(images)


def saliency(network: Network, images: Array, target: Array) -> Array:
    """Returns the largest |gradient| over the channels (Simonyan et al. 2013, arXiv 1312.6034, section 3.1)."""
    return jnp.max(jnp.abs(gradient(network, images, target)), axis=-1)


def gradient_x_input(network: Network, images: Array, target: Array) -> Array:
    """Returns gradient times pixel, summed over the channels (Shrikumar et al. 2016, arXiv 1605.01713)."""
    return jnp.sum(gradient(network, images, target) * images, axis=-1)


def guided_backpropagation(network: Network, images: Array, target: Array) -> Array:
    """Returns the guided gradient, summed over the channels (Springenberg et al. 2014, arXiv 1412.6806)."""
    return jnp.sum(gradient(network, images, target, rule="guided"), axis=-1)


def deconvnet(network: Network, images: Array, target: Array) -> Array:
    """Returns the gradient by a deconvnet's rule, summed over the channels (Zeiler and Fergus 2013, arXiv 1311.2901)."""
    return jnp.sum(gradient(network, images, target, rule="deconvnet"), axis=-1)


def smooth_gradient(
    network: Network, images: Array, target: Array, *, samples: int = SAMPLES, noise: float = NOISE, seed: int = 0
) -> Array:
    """Returns the mean gradient [B, H, W, C] over noisy copies of each image.

    Args:
        network: the network.
        images: f32 [B, H, W, C], normalised.
        target: i32 [B].
        samples: number of noisy copies.
        noise: standard deviation as a share of the difference of an image's largest and smallest value.
        seed: seed of the noise.
    """
    low, high = (jnp.asarray(f(images, axis=(1, 2, 3), keepdims=True)) for f in (jnp.min, jnp.max))
    deviation = jnp.asarray(noise, images.dtype) * (high - low)  # [B, 1, 1, 1]
    total = jnp.zeros_like(images)
    for key in jax.random.split(jax.random.key(seed), samples):
        total += gradient(network, images + deviation * jax.random.normal(key, images.shape, images.dtype), target)
    return total / samples


def smoothgrad(network: Network, images: Array, target: Array) -> Array:
    """Returns the largest magnitude over the channels of SmoothGrad's mean (Smilkov et al. 2017, arXiv 1706.03825)."""
    return jnp.max(jnp.abs(smooth_gradient(network, images, target)), axis=-1)


def integrated_gradient(network: Network, images: Array, target: Array, *, steps: int = STEPS) -> Array:
    """Returns (x − 0) times the mean gradient on the straight line from 0 to x, [B, H, W, C].

    The mean is taken by Gauss and Legendre's rule, as captum does by default. Completeness: the sum over an image is the score
    of the image less that of the baseline, but for the error of the rule.

    Args:
        network: the network.
        images: f32 [B, H, W, C], normalised.
        target: i32 [B].
        steps: number of points on the line.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # on [−1, 1], the weights add to 2
    total = jnp.zeros_like(images)
    for node, weight in zip((1 + nodes) / 2, weights / 2, strict=True):
        total += jnp.asarray(weight, images.dtype) * gradient(network, jnp.asarray(node, images.dtype) * images, target)
    return total * images


def integrated_gradients(network: Network, images: Array, target: Array) -> Array:
    """Returns the integrated gradients summed over the channels (Sundararajan et al. 2017, arXiv 1703.01365)."""
    return jnp.sum(integrated_gradient(network, images, target), axis=-1)
