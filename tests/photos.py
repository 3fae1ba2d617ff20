"""The way from image files to logits as a run takes it: opened as a folder, cropped, normalised, and classified in batches."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.data.folders import folder
from cnnlab.data.normalize import half
from cnnlab.data.pipeline import build
from cnnlab.data.resize import crop
from cnnlab.interop import convert
from cnnlab.models.efficientnet import efficientnet_lite0

MODEL = efficientnet_lite0(classes=1000)


def written(contents: Mapping[str, bytes], root: pathlib.Path) -> pathlib.Path:
    """Writes files as a folder data set of two classes, the second of which has the last file alone; returns the folder."""
    for number, (name, content) in enumerate(contents.items()):
        place = root / ("b" if number == len(contents) - 1 else "a")
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return root


def lite0(weights: pathlib.Path) -> tuple[Any, convert.ConversionReport]:
    """The variables of EfficientNet-Lite0 with the weights of a file, and the report of their import."""
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    shapes = jax.eval_shape(lambda: MODEL.init(jax.random.key(0), jnp.zeros(images.shape), train=False))
    return convert.start_from(shapes, MODEL, weights)


def logits(root: pathlib.Path, variables: Any, dtype: Any) -> dict[str, np.ndarray]:
    """{name of a file: its logits [1000]} of the image files of a folder data set."""
    data = build(folder(str(root)), batch_size=1, validation=0.0, image_size=224, image_fit=crop, normalize=half)
    assert data.example_names is not None
    found = {}
    with jax.enable_x64(dtype == np.float64), jax.default_matmul_precision("highest"):
        cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)
        apply = jax.jit(lambda v, x: MODEL.apply(v, x, train=False)[0])
        for split, size in data.sizes.items():
            every = np.arange(size, dtype=np.int32)
            feed = {"image": data.images(split, every), "label": np.zeros(size, np.int32), "index": every}
            images = data.prepare({}, feed, None)["image"]
            for name, row in zip(data.example_names(split, every), apply(cast, jnp.asarray(images, dtype)), strict=True):
                found[name.rpartition("/")[2]] = np.asarray(row)
    return found
