"""What the parts of the page are made from: the network, its images, and the maps that were computed of them."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from cnnlab.explain.attributions import Explained
from cnnlab.explain.examples import Examples
from cnnlab.explain.methods import Maps
from cnnlab.explain.network import Layer, Network
from cnnlab.explain.opening import Opened


@dataclasses.dataclass(frozen=True)
class Scene:
    """One network with some images."""

    opened: Opened
    pool: Examples
    """All images that were read, among which patches and neighbours are looked for."""
    explained: Explained
    """The images that are shown."""
    layer: Layer | None
    """The layer that was asked for; None: each part takes its usual ones."""
    methods: Mapping[str, Maps]
    """The attribution methods that suit the network and were asked for."""
    maps: Mapping[str, np.ndarray]
    """{method: maps f32 [N, H, W] of the images that are shown}."""
    say: Callable[[str], None] = lambda text: None
    """Is called with what is done next."""

    @property
    def network(self) -> Network:
        """The network."""
        return self.opened.network

    def usual_layers(self, most: int | None = None, *, spatial: bool = True) -> list[Layer]:
        """Returns the layer that was asked for, else those that the model names, at most so many, evenly spaced.

        Args:
            most: number of layers; None: all.
            spatial: whether only those with several positions count.
        """
        return [self.layer] if self.layer is not None else usual_layers(self.network, most, spatial=spatial)


def usual_layers(network: Network, most: int | None, *, spatial: bool) -> list[Layer]:
    """Returns the layers that a model names, or all where it names none; at most so many, evenly spaced.

    Args:
        network: the network.
        most: number of layers; None: all.
        spatial: whether only those with several positions count.
    """
    named = [layer for layer in network.layers if layer.is_returned] or list(network.layers)
    found = [layer for layer in named if layer.is_spatial or not spatial]
    if most is None or len(found) <= most:
        return found
    return [found[place] for place in np.linspace(0, len(found) - 1, most).round().astype(int)]
