"""Class activation maps: the channels of a layer, weighted by what they mean for the score, brought to the image's size.

Letters in shapes: B images, H W space, h w C′ those of the layer, K classes.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import OUTPUT, Array
from cnnlab.explain.attribution import target_scores
from cnnlab.explain.network import Layer, Network, values_of
from cnnlab.ops import trees

Weights = Callable[[Array, Array], Array]
"""(activations [B, h, w, C′], gradient of the score at them) -> weights of the channels [B, C′]."""

PLUS_PLUS_EPSILON = 1e-6
"""Added to the denominator of Grad-CAM++, as in pytorch-grad-cam."""


def layer_gradient(network: Network, images: Array, target: Array, layer: Layer) -> tuple[Array, Array]:
    """Returns (activations [B, h, w, C′] of a layer, the gradient of each image's score at them)."""
    zeros = jnp.zeros((images.shape[0], *layer.shape), images.dtype)

    def score(shift: Array) -> tuple[Array, Array]:
        logits, values = network.run(images, shifts={layer.name: shift})
        return jnp.sum(target_scores(logits, target)), values[layer.name]

    slopes, activations = jax.grad(score, has_aux=True)(zeros)
    return activations, slopes


@functools.partial(jax.jit, static_argnames=("layer", "weights"))
def weighted_channels(network: Network, images: Array, target: Array, *, layer: Layer, weights: Weights) -> Array:
    """Returns the weighted sum of a layer's channels, [B, h, w], negative values included."""
    activations, slopes = layer_gradient(network, images, target, layer)
    return jnp.einsum("bhwc,bc->bhw", activations, weights(activations, slopes))


def mean_gradients(activations: Array, slopes: Array) -> Array:
    """Returns Grad-CAM's weights (Selvaraju et al. 2016, arXiv 1610.02391, eq. 1): the mean gradient of each channel."""
    return jnp.mean(slopes, axis=(1, 2))  # [B, h, w, C′] -> [B, C′]


def second_order(activations: Array, slopes: Array) -> Array:
    """Returns Grad-CAM++'s weights (Chattopadhay et al. 2017, arXiv 1710.11063, eq. 19, of the exponential of the score)."""
    sums = jnp.sum(activations, axis=(1, 2), keepdims=True)  # [B, h, w, C′] -> [B, 1, 1, C′]
    shares = slopes**2 / (2 * slopes**2 + sums * slopes**3 + jnp.asarray(PLUS_PLUS_EPSILON, slopes.dtype))
    return jnp.sum(jnp.where(slopes != 0, shares, jnp.zeros((), slopes.dtype)) * jnp.maximum(slopes, 0), axis=(1, 2))


def to_image(maps: Array, image_shape: tuple[int, int, int]) -> Array:
    """Enlarges maps [B, h, w] bilinearly to [B, H, W]; pixels have centres, as in OpenCV (torch: align_corners=False)."""
    return jax.image.resize(maps, (maps.shape[0], *image_shape[:2]), "linear", antialias=False)


def grad_cam(network: Network, images: Array, target: Array, *, layer: Layer) -> Array:
    """Returns Grad-CAM: the channels weighted by their mean gradients, without negative values, enlarged."""
    maps = weighted_channels(network, images, target, layer=layer, weights=mean_gradients)
    return to_image(jnp.maximum(maps, 0), network.image_shape)


def grad_cam_plus_plus(network: Network, images: Array, target: Array, *, layer: Layer) -> Array:
    """Returns Grad-CAM++, without negative values, enlarged."""
    maps = weighted_channels(network, images, target, layer=layer, weights=second_order)
    return to_image(jnp.maximum(maps, 0), network.image_shape)


def head_kernel(network: Network) -> Array | None:
    """Returns the kernel [C′, K] of the last layer, where it is one dense layer of a name of its own; else None."""
    found = [leaf for path, leaf in trees.flatten(network.params).items() if path.split("/")[1:] == [OUTPUT, "kernel"]]
    return found[0] if len(found) == 1 and found[0].ndim == 2 else None


def pooled_layer(network: Network, images: Array) -> Layer | None:
    """Returns the layer whose mean over space is what the last dense layer takes; None where there is none, and hence no CAM.

    Args:
        network: the network.
        images: some images f32 [B, H, W, C], on which the mean is compared.
    """
    kernel, layer = head_kernel(network), network.last_spatial()
    if kernel is None or layer is None or layer.shape[2] != kernel.shape[0]:
        return None
    flat = [one.name for one in network.layers if one.shape == (kernel.shape[0],)]
    values = values_of(network, images[:1], names=(layer.name, *flat))
    pooled = np.asarray(values[layer.name], np.float64).mean(axis=(1, 2))
    allowed = 1e-4 * max(float(np.abs(pooled).max()), 1e-30)
    return layer if any(np.abs(np.asarray(values[name]) - pooled).max() <= allowed for name in flat) else None


@functools.partial(jax.jit, static_argnames="layer")
def _weighted_by_head(network: Network, images: Array, target: Array, *, layer: Layer) -> Array:
    kernel = head_kernel(network)
    assert kernel is not None
    _, values = network.run(images)
    return jnp.einsum("bhwc,cb->bhw", values[layer.name], kernel[:, target])  # [C′, K] at [B] -> [C′, B]


def cam(network: Network, images: Array, target: Array, *, layer: Layer) -> Array:
    """Returns CAM (Zhou et al. 2015, arXiv 1512.04150, eq. 2), enlarged: the channels weighted by the head's weights.

    It is defined for the layer of `pooled_layer` alone, and equals Grad-CAM before its ReLU but for the factor h·w.
    """
    return to_image(_weighted_by_head(network, images, target, layer=layer), network.image_shape)
