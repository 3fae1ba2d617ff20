"""The methods of attribution by name, with what the page says about each, and whether it suits a network."""

import dataclasses
import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array
from cnnlab.explain import activation_maps, attribution, occlusion
from cnnlab.explain.network import Layer, Network

Maps = Callable[[Network, Array, Array], Array]
"""(network, images f32 [B, H, W, C] normalised, target i32 [B]) -> maps f32 [B, H, W]."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of attribution."""

    title: str
    maps: Callable[..., Array]
    """A `Maps`; with `layer`, where it looks at one."""
    text: str
    """What a map shows and how it is made."""
    is_signed: bool = False
    """Whether negative values mean something."""
    is_coarse: bool = False
    """Whether its maps vary slowly, so that they are drawn over the image."""
    looks_at: str = "pixels"
    """pixels, or layer: it needs a layer with positions; or pooled: the layer before a global average; or relu: ReLUs."""
    passes: int = 1
    """About how many times the network is run forwards and backwards."""


METHODS: dict[str, Method] = {
    "saliency": Method(
        "Saliency",
        attribution.saliency,
        "The largest magnitude over the channels of the gradient of the score at each pixel (Simonyan et al. 2013).",
    ),
    "gradient_x_input": Method(
        "Gradient × input",
        attribution.gradient_x_input,
        "Gradient times normalised pixel, summed over the channels: the change to first order if the pixel became that of "
        "the baseline (Shrikumar et al. 2016).",
        is_signed=True,
    ),
    "guided_backpropagation": Method(
        "Guided backpropagation",
        attribution.guided_backpropagation,
        "A gradient that passes a ReLU only where its input and the gradient from above are positive, summed over the channels "
        "(Springenberg et al. 2014). It looks like the image whatever the network has learned: see the randomised weights.",
        is_signed=True,
        looks_at="relu",
    ),
    "deconvnet": Method(
        "Deconvnet",
        attribution.deconvnet,
        "A gradient that passes a ReLU only where the gradient from above is positive, summed over the channels (Zeiler and "
        "Fergus 2013); max pooling hands it to the maximum, as theirs does by its switches.",
        is_signed=True,
        looks_at="relu",
    ),
    "smoothgrad": Method(
        "SmoothGrad",
        attribution.smoothgrad,
        f"The gradient averaged over {attribution.SAMPLES} copies of the image with Gaussian noise of "
        f"{attribution.NOISE:.0%} of its range, largest magnitude over the channels (Smilkov et al. 2017).",
        passes=attribution.SAMPLES,
    ),
    "integrated_gradients": Method(
        "Integrated gradients",
        attribution.integrated_gradients,
        "The gradient averaged on the straight line from the baseline to the image, times the pixel, summed over the channels: "
        f"the map adds up to the change of the score (Sundararajan et al. 2017). {attribution.POINTS[0]} points, which are "
        f"denser next to the baseline, and up to {attribution.POINTS[-1]} until this holds to {attribution.TOLERANCE:.0%}.",
        is_signed=True,
        passes=attribution.POINTS[0],
    ),
    "cam": Method(
        "CAM",
        activation_maps.cam,
        "The channels of the layer before the global average, weighted by the last layer's weights for the class (Zhou et al. "
        "2015).",
        is_signed=True,
        is_coarse=True,
        looks_at="pooled",
    ),
    "grad_cam": Method(
        "Grad-CAM",
        activation_maps.grad_cam,
        "The channels of a layer, weighted by their mean gradients, without negative values (Selvaraju et al. 2016).",
        is_coarse=True,
        looks_at="layer",
    ),
    "grad_cam_plus_plus": Method(
        "Grad-CAM++",
        activation_maps.grad_cam_plus_plus,
        "As Grad-CAM, with weights of second order that count positive gradients alone (Chattopadhay et al. 2017).",
        is_coarse=True,
        looks_at="layer",
    ),
    "occlusion": Method(
        "Occlusion",
        occlusion.occlusion,
        "How far the score falls when a square of the baseline covers the pixel, averaged over all squares that do (Zeiler "
        "and Fergus 2013). The square has a seventh of the image's side and moves by half of its own.",
        is_signed=True,
        is_coarse=True,
        passes=200,
    ),
}
"""Methods by name."""


def fitted(name: str, network: Network, images: np.ndarray, layer: Layer | None) -> Maps | str:
    """Returns a method as a function of (network, images, target), or the reason for which it does not suit the network.

    Args:
        name: name of the method.
        network: the network.
        images: some images f32 [B, H, W, C], normalised.
        layer: layer with positions that was asked for; None: the last one.
    """
    method = METHODS[name]
    if method.looks_at == "relu":
        return method.maps if network.relus else "the network has no ReLU, so its gradient would be the plain one"
    if method.looks_at == "layer":
        where = layer or network.last_spatial()
        return functools.partial(method.maps, layer=where) if where else "the network has no layer with several positions"
    if method.looks_at == "pooled":
        pooled = activation_maps.pooled_layer(network, jnp.asarray(images))
        reason = "the network does not end with a global average and one dense layer; Grad-CAM is its generalisation"
        return functools.partial(method.maps, layer=pooled) if pooled else reason
    return method.maps
