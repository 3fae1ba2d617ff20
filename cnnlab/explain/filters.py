"""V1: the filters of the first layer, or the templates of a dense one."""

import io
from typing import Any

import numpy as np

from cnnlab import figures
from cnnlab.core import CLASSIFIER, OUTPUT
from cnnlab.explain.page import Picture, Section, figure
from cnnlab.explain.scene import Scene
from cnnlab.tasks.classify import first_kernels
from cnnlab.tasks.network_player import joined


def png_of(drawn: Any) -> bytes:
    """Returns a matplotlib figure as the content of a PNG file."""
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()


def section_of(scene: Scene) -> Section | str:
    """Returns the section of the first kernels, or the reason for which there are none."""
    params = scene.network.params
    network = joined(params) if CLASSIFIER in params else next(iter(params.values()))
    found = first_kernels(network, scene.network.image_shape)
    if found is None:
        return "no convolution and no dense layer is applied to the image itself"
    name, kernels = found
    is_template = kernels.shape[1:3] == scene.network.image_shape[:2]
    captions = figures.class_labels(scene.opened.class_names) if name == OUTPUT else ()
    drawn = figures.filters(kernels, title=f"{'Templates' if is_template else 'Filters'} of {name}", captions=captions)
    picture = Picture("filters", png_of(drawn), f"{len(kernels)} kernels of {name}")
    dead = int(np.sum(np.abs(kernels).max(axis=(1, 2, 3)) < 1e-6))
    note = (
        f"The weights of {name} as images, the {'pixels of a unit' if is_template else 'window of a filter'} each. Smooth "
        "patterns are a sign of training that has settled; noise is one of a rate that is too high or too few examples."
    )
    if dead:
        note += f" {dead} of {len(kernels)} are 0."
    return Section("Filters", f'<div class="one">{figure(picture, "")}</div>', note, (picture,))
