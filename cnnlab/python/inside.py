"""What a trained classifier looks at: its layers, the kernels of its first one, activations and attributions of images.

Letters in shapes: N images, H W space, C channels, K classes; h w C′ those of a layer.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from cnnlab.data.decode import BadImage
from cnnlab.errors import UsageError
from cnnlab.explain import checks, filters, render
from cnnlab.explain.activations import MOST_LAYERS, sheet_of
from cnnlab.explain.attributions import LARGE, Explained, chosen_target, compute_maps, zero_reason
from cnnlab.explain.command import check_names, fitted_methods
from cnnlab.explain.examples import Examples, stacked_images
from cnnlab.explain.methods import METHODS
from cnnlab.explain.network import scores, values_of
from cnnlab.explain.opening import Opened
from cnnlab.explain.scene import usual_layers
from cnnlab.predict.find import Found
from cnnlab.predict.prepare import Prepared
from cnnlab.python.predictions import found_images, unreadable

if TYPE_CHECKING:
    from PIL import Image


class Inside:
    """The inside of a trained classifier: `run.inside`, or `cnnlab.pretrained(…).inside`."""

    def __init__(self, opened: Opened) -> None:
        """Takes a network that `cnnlab.explain.opening` has opened."""
        self.opened = opened

    def __repr__(self) -> str:
        """Returns the name of the network and the number of its layers."""
        return f"Inside({self.opened.title}, {len(self.layers)} layers)"

    @property
    def layers(self) -> dict[str, tuple[int, ...]]:
        """{layer: the shape of what it computes for an image, (h, w, C′) or (C′,)}, in the order of computation."""
        return {layer.name: layer.shape for layer in self.opened.network.layers}

    def filters(self) -> "Image.Image":
        """Draws the kernels of the first layer, or the templates of a dense one; a Pillow image, which a notebook shows."""
        from cnnlab import figures

        found = filters.first_filters(self.opened)
        if found is None:
            raise UsageError(f"{self.opened.title}: {filters.NO_FILTERS}.")
        return _as_picture(figures.as_pixels(found.figure))

    def activations(self, image: Any, layers: Sequence[str] | None = None) -> "dict[str, Image.Image]":
        """Draws what each layer computes for an image, a tile for each channel, from black for the lowest value to white.

        Args:
            image: an image, as `predict` takes it; of several the first.
            layers: names of layers; None: those that the model names, at most 24.
        """
        network = self.opened.network
        chosen = [network.layer(name) for name in layers or ()] or usual_layers(network, MOST_LAYERS, spatial=False)
        first = jnp.asarray(examples_of(self.opened, image).images[:1])
        values = values_of(network, first, names=tuple(layer.name for layer in chosen))
        sheets = {layer.name: sheet_of(layer, np.asarray(values[layer.name][0], np.float32))[0] for layer in chosen}
        return {name: _as_picture(sheet) for name, sheet in sheets.items()}

    def attributions(
        self,
        images: Any,
        methods: Sequence[str] = ("grad_cam",),
        *,
        target: str | Sequence[int] | np.ndarray | None = None,
        layer: str | None = None,
    ) -> "Attributions":
        """Returns on which pixels the score of a class depends, by each method.

        Raises UsageError for a method that does not suit the network.

        Args:
            images: images, as `predict` takes them.
            methods: names of explain.methods.METHODS, such as grad_cam, occlusion, integrated_gradients.
            target: the class, by its name or number as text, or the number of a class for each image; None: the predicted one.
            layer: layer that Grad-CAM looks at; None: the last one with several positions.
        """
        check_names(methods)
        network, examples = self.opened.network, examples_of(self.opened, images)
        where = network.layer(layer) if layer else None
        fitting, left_out = fitted_methods(methods, self.opened, examples.images, where)
        if left_out:
            raise UsageError("; ".join(f"{name}: {reason}" for name, reason in left_out.items()) + ".\nLeave it out.")
        probabilities = self.opened.probabilities(np.asarray(scores(network, jnp.asarray(examples.images))), examples.images)
        if target is None or isinstance(target, str):
            aimed = chosen_target(target, probabilities, self.opened.class_names)
        else:
            aimed = _numbered_target(target, *probabilities.shape)
        explained = Explained(examples, probabilities, aimed, self.opened.class_names)
        return Attributions(compute_maps(fitting, network, explained, lambda text: None), explained)

    def shuffled(self, share: float, *, seed: int = 0) -> "Inside":
        """Returns the same network with the weights of its last kernels in random order.

        Maps that stay alike do not show what the network has learned (Adebayo et al. 2018, arXiv 1810.03292).

        Args:
            share: share of the kernels, from the output on: 0 is the last one alone, 1 all of them.
            seed: seed of the order.
        """
        return Inside(dataclasses.replace(self.opened, network=checks.randomized(self.opened.network, share, seed=seed)))


class Attributions(Mapping[str, np.ndarray]):
    """The maps of N images: a mapping from methods to maps f32 [N, H, W], such as `attributions["grad_cam"]`."""

    def __init__(self, maps: Mapping[str, np.ndarray], explained: Explained) -> None:
        """Takes maps and what they explain."""
        self._maps, self._explained = dict(maps), explained

    def __getitem__(self, name: str) -> np.ndarray:
        """Returns the maps of a method, f32 [N, H, W]."""
        return self._maps[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(maps.shape)}" for name, maps in self._maps.items())
        return f"Attributions of {len(self._explained.examples)} images: {shapes}"

    @property
    def target(self) -> np.ndarray:
        """The number of the explained class of each image, i32 [N]."""
        return self._explained.target

    def likeness(self, other: "Attributions") -> dict[str, float]:
        """Returns {method: rank correlation of |map| with that of others of the same images}, the mean over images."""
        return {name: checks.rank_correlation(maps, other[name]) for name, maps in self._maps.items() if name in other}

    def sheet(self) -> "Image.Image":
        """Draws each image beside its maps, each on its own scale: red speaks for the class and blue against it."""
        from cnnlab import figures

        shown, pictures, captions = self._explained.examples.shown(), [], []
        for number, image in enumerate(shown):
            pictures.append(render.image_pixels(image))
            captions.append("\n".join(self._explained.caption(number)[1:]))  # without its name
            for name, maps in self._maps.items():
                method, values = METHODS[name], maps[number]
                under = image if method.is_coarse else None
                pictures.append(render.map_pixels(values, is_signed=method.is_signed, under=under))
                captions.append(method.title if render.scale_of(values) else zero_reason(name))
        columns, inches = 1 + len(self._maps), 2.3 if shown.shape[1] > LARGE else 1.3
        title = f"What speaks for the class, in {len(shown)} image{'s' * (len(shown) > 1)}"
        stacked = np.stack(pictures)  # of [H, W, 3] -> [N · columns, H, W, 3]
        return _as_picture(
            figures.as_pixels(figures.image_grid(stacked, captions, title=title, columns=columns, inches=inches))
        )


def _numbered_target(target: Any, images: int, classes: int) -> np.ndarray:
    """Returns the class i32 [N] of each image; raises UsageError unless these are N numbers of K classes."""
    aimed = np.asarray(target)
    if aimed.shape != (images,) or aimed.dtype.kind not in "iu" or np.any((aimed < 0) | (aimed >= classes)):
        raise UsageError(
            f"target={target!r}: expected the number of a class for each of {images} images, 0 to {classes - 1}.\n"
            'One class for all of them is given as text: target="3", or its name.'
        )
    return aimed.astype(np.int32)


def prepared_images(opened: Opened, images: Any) -> list[tuple[Found, Prepared]]:
    """Returns images, as `predict` takes them, prepared for the network; raises DataError where one cannot be read."""
    found = found_images(images, channels=opened.inputs.image_shape[2])
    if not found:
        raise UsageError("there are no images: the list is empty.")
    prepared = []
    for one in found:
        try:
            prepared.append((one, opened.prepare(one.source)))
        except BadImage as error:
            raise unreadable(one, error) from None
    return prepared


def examples_of(opened: Opened, images: Any) -> Examples:
    """Returns images, as `predict` takes them, with what the network sees."""
    prepared = prepared_images(opened, images)
    pixels = stacked_images([one.pixels for _, one in prepared])
    return Examples(pixels, opened.normalized(pixels), None, tuple(found.place for found, _ in prepared), "Python")


def _as_picture(pixels: np.ndarray) -> "Image.Image":
    """Returns pixels u8 [height, width, 3] as a Pillow image."""
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(pixels))
