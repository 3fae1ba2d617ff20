"""Boxes as a person sees them: colours of classes, pictures and records of detections, figures of a split.

Letters in shapes: N images of a split, H W space, C channels, K classes, M boxes of an image.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Params, Predicted, Prediction, PyTree, Stats
from cnnlab.data.placement import Placement
from cnnlab.inputs import InputSpec, unit_value
from cnnlab.ops.errors_of_boxes import KINDS, breakdown, verdicts
from cnnlab.ops.metrics_of_boxes import coco_curves
from cnnlab.ops.objects import Objects
from cnnlab.tasks.detection_metrics import FOUND, TRUE, BoxMetrics, boxes_at, objects_of
from cnnlab.tasks.masks_shown import COLOURS, class_colours, in_colour

LEAST_SHOWN = 0.3
"""Score from which a detection is drawn."""
EXAMPLES = 8
"""Number of images in a figure."""
MOST_DRAWN = 20
"""Boxes of an image that a snapshot draws."""


@functools.cache
def palette(classes: int) -> np.ndarray:
    """Returns the colour of each class, f32 [K, 3] in [0, 1]."""
    return np.asarray(class_colours(classes + 1)[1:], np.float32) / 255  # the first colour is that of a background


def prediction(
    metrics: BoxMetrics, found_in: Callable[[Array, Array], dict[str, Array]], *, least: float = LEAST_SHOWN
) -> Prediction:
    """The prediction of boxes: a row for each detection, in pixels of the image itself, and a picture with the boxes.

    Records are those of COCO's results, whose categories have the publisher's numbers, or count from 1; a file's name without
    folder and ending is the image.

    Args:
        metrics: the classes.
        found_in: (outputs, images) -> {corners f32 [B, D, 4], score, label, valid}.
        least: score from which a detection is drawn and named in captions; rows and records have all.
    """
    names = metrics.class_names
    numbers = metrics.published or range(1, 1 + len(names))

    def rows(arrays: Predicted, inputs: InputSpec) -> list[dict[str, Any]]:
        return [
            {"class": names[label], "score": score, **dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True))}
            for corners, score, label in _each(arrays)
        ]

    def records(arrays: Predicted, inputs: InputSpec, name: str) -> list[dict[str, Any]]:
        stem = pathlib.PurePath(name).stem
        return [
            {
                "image_id": int(stem) if stem.isdecimal() else stem,
                "category_id": numbers[int(label)],
                "category": names[label],
                "bbox": [float(x) for x in (*corners[:2], *(corners[2:] - corners[:2]))],
                "score": float(score),
            }
            for corners, score, label in _each(arrays)
        ]

    def caption(arrays: Predicted, inputs: InputSpec) -> str:
        shown = [names[label] for _, score, label in _each(arrays) if score >= least]
        return ", ".join(f"{shown.count(name)} {name}" for name in dict.fromkeys(shown)) or "nothing"

    def drawn(image: np.ndarray, arrays: Predicted) -> np.ndarray:
        return with_boxes(image, [one for one in _each(arrays) if one[1] >= least], names)

    def maps(image: np.ndarray, arrays: Predicted, place: Placement) -> Mapping[str, np.ndarray]:
        return {"boxes": drawn(image, placed(arrays, place))}

    return Prediction(arrays=found_in, rows=rows, caption=caption, picture=drawn, maps=maps, placed=placed, records=records)


def placed(arrays: Predicted, place: Placement) -> dict[str, np.ndarray]:
    """Returns detections whose corners are in pixels of the image itself, clipped to it."""
    scale, offset, sides = (
        np.asarray((each[1], each[0]) * 2, np.float32) for each in (place.scale, place.offset, place.image)
    )  # of (x, y, x, y)
    return {**arrays, "corners": np.clip((arrays["corners"] - offset) / scale, 0, sides)}


def _each(arrays: Predicted) -> list[tuple[np.ndarray, float, int]]:
    """Returns (corners [4], score, label) of each detection, the best first."""
    valid = arrays["valid"]
    return list(zip(arrays["corners"][valid], arrays["score"][valid], arrays["label"][valid], strict=True))


def with_boxes(image: np.ndarray, boxes: Sequence[tuple[np.ndarray, float | None, int]], names: Sequence[str]) -> np.ndarray:
    """Returns the picture f32 [H, W, 3] of an image f32 [H, W, C] in [0, 1] with boxes, their classes and scores.

    Args:
        image: the image.
        boxes: (corners [4], score or None, class) of each; the first ones lie on top.
        names: of the classes.
    """
    from PIL import Image, ImageDraw

    pixels = Image.fromarray(np.rint(255 * in_colour(image)).astype(np.uint8))
    draw, width = ImageDraw.Draw(pixels), max(1, round(min(pixels.size) / 200))
    colours = np.rint(255 * palette(len(names))).astype(int)
    for corners, score, label in reversed(boxes):
        x1, y1, x2, y2 = (float(each) for each in corners)
        colour = tuple(colours[label].tolist())
        draw.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=colour, width=width)
        if min(pixels.size) >= LETTERS:
            text = names[label] if score is None else f"{names[label]} {score:.2f}"
            draw.text((x1 + width + 1, y1 + width), text, fill=colour)
    return np.asarray(pixels, np.float32) / 255


LETTERS = 160
"""Side in pixels of the smallest picture in which boxes are named."""


def outlined(image: Array, boxes: Mapping[str, Array], *, colours: Array) -> Array:
    """Returns an image f32 [H, W, 3] with the outlines of boxes, a pixel wide, inside a compiled program.

    Args:
        image: the image.
        boxes: corners f32 [M, 4], label i32 [M], valid bool [M]; the first MOST_DRAWN are drawn, the first on top.
        colours: f32 [K, 3].
    """
    corners = jnp.floor(boxes["corners"][:MOST_DRAWN])
    if not len(corners):
        return image
    low, high = corners[:, :2], jnp.maximum(jnp.ceil(corners[:, 2:]), corners[:, :2] + 1) - 1
    inside, within = [], []
    for axis, length in ((0, image.shape[1]), (1, image.shape[0])):  # x, then y
        places = jnp.arange(length, dtype=corners.dtype)[None]
        first, last = low[:, axis, None], high[:, axis, None]
        inside.append((places >= first) & (places <= last))  # [M, W], [M, H]
        within.append((places > first) & (places < last))
    outline = (inside[1][:, :, None] & inside[0][:, None]) & ~(within[1][:, :, None] & within[0][:, None])  # [M, H, W]
    outline &= boxes["valid"][:MOST_DRAWN, None, None]
    colour = colours[boxes["label"][:MOST_DRAWN][jnp.argmax(outline, axis=0)]]  # [M] at [H, W] -> [K, 3] at [H, W]
    return jnp.where(jnp.any(outline, axis=0)[..., None], colour, image)


def snapshot(
    metrics: BoxMetrics,
    detections: Callable[[Params, PyTree, Array], dict[str, Array]],
    params: Params,
    model_state: PyTree,
    batch: Batch,
    key: Array,
    *,
    least: float = LEAST_SHOWN,
) -> dict[str, Array]:
    """Returns `boxes`: each image with its true boxes, then with the predicted ones, in the colours of their classes.

    Boxes of a score below `least` are not drawn; the other arguments are those of Task.snapshot.
    """
    found, truth = detections(params, model_state, batch["image"]), batch[metrics.column]
    shown = {**found, "valid": found["valid"] & (found["score"] >= least)}
    images = in_unit_range(batch["image"])
    colours = jnp.asarray(palette(len(metrics.class_names)))
    drawn = [jax.vmap(functools.partial(outlined, colours=colours))(images, each) for each in (truth, shown)]
    pairs = jnp.stack(drawn, axis=1)  # two of [N, H, W, 3] -> [N, 2, H, W, 3]
    return {"boxes": pairs.reshape(-1, *images.shape[1:])}  # [N, 2, H, W, 3] -> [2 N, H, W, 3]


def in_unit_range(images: Array) -> Array:
    """Returns images [N, H, W, C] as pictures f32 [N, H, W, 3] from 0 to 1: the normalisation is not known here."""
    low, high = jnp.min(images, (1, 2, 3), keepdims=True), jnp.max(images, (1, 2, 3), keepdims=True)
    images = (images - low) / jnp.where(high > low, high - low, 1.0)
    return images if images.shape[-1] == 3 else jnp.broadcast_to(jnp.mean(images, -1, keepdims=True), (*images.shape[:3], 3))


def draw_figures(metrics: BoxMetrics, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """Returns true and found boxes side by side, curves of precision, what errors cost, and the surest mistakes."""
    from cnnlab import figures

    rows = stats["rows"]
    if not rows:
        return {}
    images = objects_of(rows)
    curves, errors = coco_curves(images, len(metrics.class_names)), breakdown(images, len(metrics.class_names))
    names = figures.class_labels(metrics.class_names)
    costs = [errors.costs[kind] for kind in errors.costs]
    note = f"rise of AP50 where the errors of one kind are corrected; it is {100 * errors.average_precision:.1f} %"
    counted = [f"{kind} ({errors.counts[kind]})" for kind in errors.costs]
    return {
        "boxes": sheet(
            metrics,
            rows,
            data,
            split,
            np.arange(min(EXAMPLES, len(images))),
            title=f"The first images of {split}, and what was found with a score of at least {LEAST_SHOWN}",
        ),
        "precision_recall": figures.precision_recall(
            curves.precision[0, :, :, 0, -1].T, names, title=f"Precision and recall on {split} at IoU 1/2"
        ),
        "errors": figures.bars(costs, counted, title=f"Errors on {split}", note=note),
        "mistakes": _mistakes(metrics, rows, images, data, split),
    }


def _picture(metrics: BoxMetrics, image: np.ndarray, boxes: Mapping[str, np.ndarray], which: np.ndarray) -> np.ndarray:
    """Returns an image f32 [H, W, C] with some of its boxes, those of `which` (bool, or places)."""
    scores = boxes.get("score", [None] * len(boxes["label"]))
    places = np.flatnonzero(which) if which.dtype == bool else which
    drawn = [(boxes["corners"][place], scores[place], int(boxes["label"][place])) for place in places]
    return with_boxes(image, drawn, metrics.class_names)


def stored_images(data: Dataset, split: str, rows: Mapping[str, Any], places: np.ndarray) -> np.ndarray:
    """Returns images f32 [n, H, W, C] in [0, 1] at places among the rows."""
    stored = data.images(split, np.asarray(rows["index"])[places])
    return stored.astype(np.float32) / unit_value(stored.dtype)


def sheet(
    metrics: BoxMetrics,
    rows: Mapping[str, Any],
    data: Dataset,
    split: str,
    places: np.ndarray,
    *,
    title: str,
    least: float = LEAST_SHOWN,
) -> Any:
    """Returns the figure of images at places among the rows, each with its true boxes and with what was found.

    Args:
        metrics: the classes.
        rows: the rows of a split.
        data: the data, which has the images.
        split: name of the split.
        places: of the images among the rows, i64 [n].
        title: of the figure.
        least: score from which a detection is drawn.
    """
    from cnnlab import figures

    pictures, captions = [], []
    for place, image in zip(places.tolist(), stored_images(data, split, rows, places), strict=True):
        truth, found = (boxes_at(rows, which, place) for which in (TRUE, FOUND))
        sure = found["valid"] & (found["score"] >= least)
        pictures += [_picture(metrics, image, truth, truth["valid"]), _picture(metrics, image, found, sure)]
        captions += [f"truth: {int(truth['valid'].sum())}", f"found: {int(sure.sum())}"]
    return figures.image_grid(np.stack(pictures), captions, title=title, columns=8, legend=legend(metrics), inches=1.5)


def _mistakes(metrics: BoxMetrics, rows: Mapping[str, Any], images: Sequence[Objects], data: Dataset, split: str) -> Any:
    """Returns the figure of the wrong detections with the highest scores: the true boxes, and the detection."""
    from cnnlab import figures

    wrong = []
    for place, image in enumerate(images):
        kinds = verdicts(image).kind
        wrong += [(float(image.score[number]), place, number, kind) for number, kind in enumerate(kinds) if kind in KINDS]
    wrong = sorted(wrong, key=lambda one: -one[0])[:EXAMPLES]
    pictures, captions = [], []
    stored = stored_images(data, split, rows, np.asarray([place for _, place, *_ in wrong], np.int64))
    for image, (score, place, number, kind) in zip(stored, wrong, strict=True):
        truth, found = (boxes_at(rows, which, place) for which in (TRUE, FOUND))
        # Detections lie from the highest score down (nms.detections), as the objects of metrics do.
        label = metrics.class_names[int(found["label"][number])]
        pictures += [_picture(metrics, image, truth, truth["valid"]), _picture(metrics, image, found, np.asarray([number]))]
        captions += ["truth", f"{label} {score:.2f}\n{kind}"]
    shown = np.stack(pictures) if pictures else np.zeros((0, 1, 1, 3), np.float32)
    title = f"The surest mistakes on {split}"
    return figures.image_grid(shown, captions, title=title, columns=8, legend=legend(metrics), inches=1.5)


def legend(metrics: BoxMetrics) -> list[tuple[str, str]]:
    """Returns the names of the classes, as many as have colours of their own, with their colours."""
    from cnnlab import figures

    names, colours = figures.class_labels(metrics.class_names), class_colours(len(COLOURS))[1:]
    return [(name, "#" + bytes(colour).hex()) for name, colour in zip(names, colours, strict=False)]
