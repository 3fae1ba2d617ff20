"""Embeddings of the last layer's features: PCA, t-SNE and nearest neighbours, as maps of thumbnails.

Letters in shapes: N images, F features, H W space, C channels, k neighbours.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import figures
from cnnlab.core import OUTPUT, Array
from cnnlab.explain.network import Layer, Network
from cnnlab.explain.page import Picture, Section, figure
from cnnlab.explain.render import as_png, image_pixels
from cnnlab.explain.scene import Scene
from cnnlab.ops import knn
from cnnlab.text import counted

MOST_IMAGES = 400
"""Images that are embedded."""
FEWEST_IMAGES = 12
"""Images below which a map says nothing."""
BATCH = 32
"""Images whose features are computed at once."""
SIDE = 900
"""Height and width of a map in pixels."""
THUMBNAILS = (28, 96)
"""Least and greatest height of a thumbnail on it, which shrinks as images grow in number."""
QUERIES, NEIGHBOURS = 8, 8
"""Images whose neighbours are shown, and the number of these."""
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#444444", "#999999", "#7B3294")
"""Colours of the classes' frames; from the eleventh on they repeat."""


def feature_layer(network: Network, asked: Layer | None) -> Layer | None:
    """Returns the layer whose values are embedded: the one asked for, else the last before the scores."""
    if asked is not None:
        return asked
    scores = [place for place, layer in enumerate(network.layers) if layer.name == OUTPUT]
    before = network.layers[: scores[-1]] if scores else network.layers[:-1]
    return before[-1] if before else None


@functools.partial(jax.jit, static_argnames="name")
def _features(network: Network, images: Array, *, name: str) -> Array:
    """Returns the values of a layer as [B, F]; of one with positions the mean over these."""
    values = network.run(images)[1][name]
    return jnp.mean(values, axis=(1, 2)) if values.ndim == 4 else values.reshape(values.shape[0], -1)


def features_of(network: Network, images: np.ndarray, layer: Layer) -> np.ndarray:
    """Returns the features f32 [N, F] of images f32 [N, H, W, C] at a layer."""
    found = []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        missing = min(BATCH, len(images)) - len(batch)
        padded = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), batch.dtype)]) if missing else batch
        found.append(np.asarray(_features(network, jnp.asarray(padded), name=layer.name))[: len(batch)])
    return np.concatenate(found).astype(np.float32)


def principal_components(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (the first two principal components [N, 2] of features [N, F], their shares of the variance [2])."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    left, strengths, _ = np.linalg.svd(centred, full_matrices=False)
    shares = strengths**2 / max(float(np.sum(strengths**2)), 1e-30)
    plane, kept = np.zeros((len(features), 2)), min(2, len(strengths))
    plane[:, :kept] = left[:, :kept] * strengths[:kept]
    return plane, np.pad(shares[:2], (0, 2 - kept))


def t_sne(features: np.ndarray) -> np.ndarray:
    """Returns the places [N, 2] of t-SNE (van der Maaten and Hinton 2008) with scikit-learn, from the first 30 components."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    reduced = PCA(min(30, *features.shape), random_state=0).fit_transform(features.astype(np.float64))
    perplexity = min(30.0, (len(features) - 1) / 3)
    return np.asarray(TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(reduced))


def thumbnail_map(places: np.ndarray, images: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Draws thumbnails of images f32 [N, H, W, C] in [0, 1] at places [N, 2]: u8 [SIDE, SIDE, 3], framed by class."""
    from matplotlib.colors import to_rgb

    page = np.full((SIDE, SIDE, 3), 255, np.uint8)
    height, width = images.shape[1:3]
    tall = int(np.clip(SIDE / 1.6 / math.sqrt(len(images)), *THUMBNAILS))
    size = (tall, max(1, round(tall * width / height)))
    small = np.asarray(jax.image.resize(jnp.asarray(images), (len(images), *size, images.shape[3]), "linear"))
    low, high = places.min(axis=0), places.max(axis=0)
    shares = (places - low) / np.maximum(high - low, 1e-30)
    for number, share in enumerate(shares):
        # The second component points upwards; a frame of two pixels surrounds each thumbnail.
        left, top = (
            round(float(part) * (SIDE - side - 4)) for part, side in zip((share[0], 1 - share[1]), size[::-1], strict=True)
        )
        color = "#999999" if labels is None else COLORS[int(labels[number]) % len(COLORS)]
        page[top : top + size[0] + 4, left : left + size[1] + 4] = np.rint(255 * np.array(to_rgb(color))).astype(np.uint8)
        page[top + 2 : top + 2 + size[0], left + 2 : left + 2 + size[1]] = image_pixels(small[number])
    return page


def neighbours_of(rows: np.ndarray, queries: Sequence[int], count: int) -> np.ndarray:
    """Returns the places i32 [Q, k] of the nearest other rows of [N, F] to some of them, by Euclidean distance."""
    found = knn.nearest(jnp.asarray(rows[list(queries)]), jnp.asarray(rows), k=count + 1, distance="l2", chunk=1024)
    # The nearest is the row itself, unless there is a copy of it.
    kept = [[place for place in line if place != query][:count] for line, query in zip(found.tolist(), queries, strict=True)]
    return np.asarray(kept, np.int32)


def section_of(scene: Scene) -> Section | str:
    """Returns the section of the maps and neighbours, or the reason for which there are none."""
    layer = feature_layer(scene.network, scene.layer)
    if layer is None:
        return "the network has no layer before its scores"
    pool = scene.pool.at(range(min(MOST_IMAGES, len(scene.pool))))
    if len(pool) < FEWEST_IMAGES:
        return f"a map of {counted(len(pool), 'image')} says nothing; give {FEWEST_IMAGES} images or more"
    scene.say(f"features of {layer.name}")
    features, images = features_of(scene.network, pool.images, layer), pool.shown()
    if not np.ptp(features, axis=0).any():
        return f"the features of {layer.name} are the same for all images"
    plane, shares = principal_components(features)
    scene.say("t-SNE")
    drawn = {"pca": thumbnail_map(plane, images, pool.labels), "t_sne": thumbnail_map(t_sne(features), images, pool.labels)}
    texts = {
        "pca": f"PCA: the first two components hold {shares[0]:.0%} and {shares[1]:.0%} of the variance.",
        "t_sne": "t-SNE (perplexity 30, or a third of the images): neighbours stay close; the gaps of groups mean nothing.",
    }
    pictures = [Picture(f"embedding_{name}", as_png(page), name) for name, page in drawn.items()]
    parts = [figure(picture, texts[name]) for picture, name in zip(pictures, drawn, strict=True)]
    more, captions = _neighbours(pool.images, features, images, pool.labels)
    pictures += more
    parts += [figure(picture, caption) for picture, caption in zip(more, captions, strict=True)]
    note = f"The values of {layer.name} for {len(pool)} images ({pool.source})" + (
        ", framed by class." if pool.labels is not None else "."
    )
    return Section("Embedding", f'<div class="sheets wide">{"".join(parts)}</div>', note, tuple(pictures))


def _neighbours(
    normalized: np.ndarray, features: np.ndarray, images: np.ndarray, labels: np.ndarray | None
) -> tuple[list[Picture], list[str]]:
    """Returns sheets of nearest neighbours by features and by pixels, and their captions."""
    count = min(NEIGHBOURS, len(images) - 1)
    queries = np.unique(np.linspace(0, len(images) - 1, QUERIES).round().astype(int)).tolist()
    pictures, captions = [], []
    for name, rows in (("features", features), ("pixels", normalized.reshape(len(images), -1))):  # [N, H, W, C] -> [N, H·W·C]
        found = neighbours_of(rows, queries, count)
        order = [place for query, line in zip(queries, found.tolist(), strict=True) for place in (query, *line)]
        sheet = figures.sheet(images[order], columns=count + 1)
        pictures.append(Picture(f"neighbours_by_{name}", as_png(sheet), f"nearest neighbours by {name}"))
        agree = (
            ""
            if labels is None
            else f"; {np.mean(labels[found] == labels[queries][:, None]):.0%} have the class of their image"
        )
        captions.append(f"Nearest neighbours by {name}: each row begins with an image{agree}.")
    return pictures, captions
