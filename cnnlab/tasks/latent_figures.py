"""Figures of a variational autoencoder's codes: interpolations, the plane of codes or traversals, and classes.

Letters in shapes: N test images, R C rows and columns of a table of codes, Z units of a code.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from cnnlab.core import Dataset, Stats
from cnnlab.ops.slerp import slerp

PICTURED = 16
"""Number of test images between which interpolations are shown."""
BETWEEN = 10
"""Number of codes in a row of a figure."""
SPAN = 3.0
"""Standard deviations of the prior that a traversal goes to either side."""
MANIFOLD = 20
"""Number of codes along each side of the figure of a plane."""

Table = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(codes [R, C, Z], labels [R]) -> decoded images f32 [R, C, H, W, channels]."""


def latent_figures(
    decode: Any, ends: np.ndarray, labels: np.ndarray, stats: Stats, data: Dataset, conditional: bool, split: str
) -> dict[str, Any]:
    """Returns {name: figure} of the codes of test images.

    Args:
        decode: (codes f32 [N, Z], labels [N]) -> expected images f32 [N, H, W, channels].
        ends: mean codes of the first test images, f32 [N, Z].
        labels: their labels, i32 [N].
        stats: statistics of the split, with the codes of all its images.
        data: the data set, for the names of classes.
        conditional: whether the decoder sees labels.
        split: name of the split.
    """
    from cnnlab import figures

    def table(codes: np.ndarray, given: np.ndarray) -> np.ndarray:
        flat = codes.reshape(-1, codes.shape[2]).astype(np.float32)  # [R, C, Z] -> [R·C, Z]
        images = np.asarray(decode(flat, np.repeat(given, codes.shape[1])))  # labels [R] -> [R·C]
        return images.reshape(*codes.shape[:2], *images.shape[1:])  # [R·C, H, W, channels] -> [R, C, H, W, channels]

    shown = {"interpolations": _interpolations(table, ends, labels)}
    if ends.shape[1] == 2:
        codes, names = stats["rows"]["code"], data.class_names
        shown["codes"] = figures.code_plane(codes, stats["rows"]["label"], names, title=f"Codes of the {split} images")
        shown["manifold"] = _plane(table, labels[0], f", class {names[labels[0]]}" if conditional else "")
    else:
        shown["traversals"] = _traversals(table, ends[0], labels[0], stats["rows"]["code"])
    if conditional:
        shown["classes"] = _classes(table, data, ends.shape[1])
    return shown


def _interpolations(table: Table, ends: np.ndarray, labels: np.ndarray) -> Any:
    """Returns the figure of spherical interpolations between the codes ends [N, Z] of consecutive images."""
    from cnnlab import figures

    pairs = len(ends) // 2
    shares = np.linspace(0, 1, BETWEEN, dtype=np.float32)
    # [N, Z] -> [N / 2, BETWEEN, Z]
    codes = np.stack([[slerp(ends[2 * row], ends[2 * row + 1], share) for share in shares] for row in range(pairs)])
    note = "each row from the code of one test image to that of another"
    return figures.tiles(table(codes, labels[0 : 2 * pairs : 2]), title="Between codes", note=note)


def _plane(table: Table, label: Any, suffix: str) -> Any:
    """Returns the figure of images decoded on a grid over the plane of codes."""
    from cnnlab import figures

    # Even steps of the prior's distribution function: the grid is as dense as the prior (Kingma and Welling 2014, appendix A).
    places = jax.scipy.special.ndtri((np.arange(MANIFOLD, dtype=np.float32) + 0.5) / MANIFOLD)
    grid = np.stack(np.meshgrid(places, -places), axis=-1)  # two [R, C] -> [R, C, 2]
    note = f"codes at even steps of the prior's distribution function{suffix}"
    return figures.tiles(table(grid, np.full(MANIFOLD, label)), title="The plane of codes", note=note, gap=0)


def _traversals(table: Table, code: np.ndarray, label: Any, all_codes: np.ndarray) -> Any:
    """Returns the figure in which one unit of `code` [Z] changes along each row; the units that vary most come first."""
    from cnnlab import figures

    order = np.argsort(-np.var(all_codes, axis=0), kind="stable")[:BETWEEN]
    codes = np.tile(code, (len(order), BETWEEN + 1, 1))  # [Z] -> [R, C, Z]
    steps = np.linspace(-SPAN, SPAN, BETWEEN + 1)
    for row, unit in enumerate(order):
        codes[row, :, unit] = steps
    return figures.tiles(
        table(codes, np.full(len(order), label)),
        title="Traversals",
        note="one unit of a test image's code changes along each row; the units that vary most first",
        row_captions=[f"unit {unit}" for unit in order],
        column_captions=[f"{step:+.1f}".replace("-", "−") for step in steps],
    )


def _classes(table: Table, data: Dataset, units: int) -> Any:
    """Returns the figure of the same codes decoded for every class."""
    from cnnlab import figures

    codes = np.asarray(jax.random.normal(jax.random.key(1), (BETWEEN, units)))
    codes = np.tile(codes, (data.classes, 1, 1))  # [C, Z] -> [R, C, Z]
    images = table(codes, np.arange(data.classes, dtype=np.int32))
    note = "one code in each column, one class in each row"
    return figures.tiles(images, title="Classes", note=note, row_captions=figures.class_labels(data.class_names))
