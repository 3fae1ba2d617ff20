"""The filters of the first layer, or the templates of a dense one."""

import dataclasses
import io
from typing import Any

import numpy as np

from cnnlab import figures
from cnnlab.core import CLASSIFIER, OUTPUT
from cnnlab.explain.opening import Opened
from cnnlab.explain.page import Picture, Section, figure
from cnnlab.explain.scene import Scene
from cnnlab.tasks.classify import first_kernels
from cnnlab.tasks.network_player import joined

NO_FILTERS = "no convolution and no dense layer is applied to the image itself"


def png_of(drawn: Any) -> bytes:
    """Returns a matplotlib figure as the content of a PNG file."""
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()


@dataclasses.dataclass(frozen=True)
class FirstFilters:
    """The kernels of the layer that sees the image."""

    layer: str
    kernels: np.ndarray
    """f32 [N, H, W, C]."""
    is_template: bool
    """Whether each is as large as the image, as those of a dense layer are."""
    figure: Any
    """They as a matplotlib figure."""


def first_filters(opened: Opened) -> FirstFilters | None:
    """Returns the kernels of the first layer, or the templates of a dense one; None where there are none."""
    params = opened.network.params
    network = joined(params) if CLASSIFIER in params else next(iter(params.values()))
    found = first_kernels(network, opened.network.image_shape)
    if found is None:
        return None
    name, kernels = found
    is_template = kernels.shape[1:3] == opened.network.image_shape[:2]
    captions = figures.class_labels(opened.class_names) if name == OUTPUT else ()
    drawn = figures.filters(kernels, title=f"{'Templates' if is_template else 'Filters'} of {name}", captions=captions)
    return FirstFilters(name, kernels, is_template, drawn)


def section_of(scene: Scene) -> Section | str:
    """Returns the section of the first kernels, or the reason for which there are none."""
    found = first_filters(scene.opened)
    if found is None:
        return NO_FILTERS
    name, kernels = found.layer, found.kernels
    picture = Picture("filters", png_of(found.figure), f"{len(kernels)} kernels of {name}")
    dead = int(np.sum(np.abs(kernels).max(axis=(1, 2, 3)) < 1e-6))
    each = "pixels of a unit" if found.is_template else "window of a filter"
    note = (
        f"The weights of {name} as images, the {each} each. Smooth patterns are a sign of training that has settled; noise is "
        "one of a rate that is too high or too few examples."
    )
    if dead:
        note += f" {dead} of {len(kernels)} are 0."
    return Section("Filters", f'<div class="one">{figure(picture, "")}</div>', note, (picture,))
