"""Instances as a person sees them: pictures and records of detections with masks, figures of a split.

Letters in shapes: N images, H W space, C channels, D detections, M objects.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Params, Predicted, Prediction, PyTree, Stats
from cnnlab.data.placement import Placement
from cnnlab.inputs import InputSpec
from cnnlab.ops import instances, regions
from cnnlab.ops.run_lengths import segmentation
from cnnlab.tasks import boxes_shown
from cnnlab.tasks.detection_metrics import FOUND, TRUE, boxes_at
from cnnlab.tasks.instance_metrics import INSIDE, SHOWN, SURE, InstanceMetrics
from cnnlab.tasks.masks_shown import COLOURS, class_colours, in_colour

OPACITY = 0.4
"""Share of an object's colour in the picture of it; its border has that colour alone."""


def prediction(metrics: InstanceMetrics, found_in: Callable[[Array, Array], dict[str, Array]]) -> Prediction:
    """The prediction of boxes with masks: as that of boxes, with `segmentation` in records and masks in pictures.

    Args:
        metrics: the classes.
        found_in: (outputs, images) -> {corners f32 [B, D, 4], score, label, valid, mask f32 [B, D, B', B']}.
    """
    boxes = boxes_shown.prediction(metrics, found_in, least=SURE)
    assert boxes.records is not None
    plain_records = boxes.records

    def placed(arrays: Predicted, place: Placement) -> Predicted:
        scale, offset = (np.asarray((each[1], each[0]) * 2, np.float32) for each in (place.scale, place.offset))
        # A mask lies in its whole box, also where that reaches beyond the image.
        frame = (arrays["corners"] - offset) / scale
        return {**boxes_shown.placed(arrays, place), "frame": frame, "size": np.asarray(place.image)}

    def records(arrays: Predicted, inputs: InputSpec, name: str) -> list[dict[str, Any]]:
        found = plain_records(arrays, inputs, name)
        masks = [_mask(arrays, number) for number in np.flatnonzero(arrays["valid"]).tolist()]
        return [{**one, "segmentation": segmentation(mask)} for one, mask in zip(found, masks, strict=True)]

    def drawn(image: np.ndarray, arrays: Predicted) -> np.ndarray:
        """Returns the picture of an image with masks, and with named boxes where classes are several, of placed arrays."""
        sure = np.flatnonzero(arrays["valid"] & (arrays["score"] >= SURE))
        owner = np.full(image.shape[:2], instances.NOBODY)
        for number in sure[::-1].tolist():  # the surest lies on top
            owner[_mask(arrays, number)] = number
        shown: np.ndarray = painted(in_colour(image), owner, _colours(metrics, np.asarray(arrays["label"])))
        return boxes.picture(shown, arrays) if len(metrics.class_names) > 1 else shown

    def picture(image: np.ndarray, arrays: Predicted) -> np.ndarray:
        return drawn(image, {**arrays, "frame": arrays["corners"], "size": np.asarray(image.shape[:2])})

    def maps(image: np.ndarray, arrays: Predicted, place: Placement) -> Mapping[str, np.ndarray]:
        return {"instances": drawn(image, placed(arrays, place))}

    return dataclasses.replace(boxes, picture=picture, maps=maps, placed=placed, records=records)


def _mask(arrays: Predicted, number: int) -> np.ndarray:
    """Returns the mask bool [H, W] of a detection on an image, of arrays that were placed."""
    height, width = arrays["size"].tolist()
    return regions.pasted(arrays["mask"][number], arrays["frame"][number], (height, width), INSIDE)


def _colours(metrics: InstanceMetrics, label: np.ndarray) -> np.ndarray:
    """Returns the colours f32 [n, 3] of objects: those of their classes i32 [n], or one for each where there is one class."""
    if len(metrics.class_names) > 1:
        return np.asarray(boxes_shown.palette(len(metrics.class_names))[label])
    return _of_objects(len(label))


def _of_objects(count: int) -> np.ndarray:
    """Returns the usual colours again and again, f32 [count, 3]."""
    usual = np.asarray(class_colours(len(COLOURS))[1:], np.float32) / 255
    return np.resize(usual, (count, 3)) if count else np.zeros((0, 3), np.float32)


def painted(image: Any, owner: Any, colours: Any, xp: ModuleType = np) -> Any:
    """Returns an image f32 [H, W, 3] with its objects in their colours, on the host, or with `jax.numpy` on the device.

    Args:
        image: the image.
        owner: the object of each pixel, or NOBODY, integers [H, W].
        colours: of the objects, f32 [n, 3].
        xp: NumPy or jax.numpy.
    """
    if not len(colours):
        return image
    down, right = (xp.pad(owner, pads, mode="edge") for pads in (((0, 1), (0, 0)), ((0, 0), (0, 1))))
    is_border = (down[1:] != owner) | (right[:, 1:] != owner)
    is_object = owner != instances.NOBODY
    share = xp.where(is_object, xp.where(is_border, 1.0, OPACITY), 0.0).astype(image.dtype)[..., None]
    return (1 - share) * image + share * colours[xp.where(is_object, owner, 0)]  # [n, 3] at [H, W] -> [H, W, 3]


def snapshot(
    metrics: InstanceMetrics,
    detections: Callable[[Params, PyTree, Array], dict[str, Array]],
    params: Params,
    model_state: PyTree,
    batch: Batch,
    key: Array,
) -> dict[str, Array]:
    """Returns `masks`: each image with its true objects, then with those that were found; the arguments are Task.snapshot's."""
    found, truth = detections(params, model_state, batch["image"]), batch[metrics.column]
    images = boxes_shown.in_unit_range(batch["image"])

    def both(given: tuple[Array, dict[str, Array], Array, dict[str, Array]]) -> Array:
        image, found, masks, truth = given
        own = instances.owners((masks > 0) & truth["valid"][:, None, None])
        on = instances.on_image(found["mask"], found["corners"], (image.shape[0], image.shape[1])) >= INSIDE
        guess = instances.owners(on & (found["valid"] & (found["score"] >= SURE))[:, None, None])
        pair = [(own, truth["label"]), (guess, found["label"])]
        return jnp.stack([painted(image, owner, _on_device(metrics, label), jnp) for owner, label in pair])

    pairs = jax.lax.map(both, (images, found, batch[metrics.masks], truth))  # [N, 2, H, W, 3]
    return {"masks": pairs.reshape(-1, *images.shape[1:])}  # [N, 2, H, W, 3] -> [2 N, H, W, 3]


def _on_device(metrics: InstanceMetrics, label: Array) -> Array:
    """Returns the colours f32 [n, 3] of objects, as `_colours` does."""
    if len(metrics.class_names) > 1:
        return jnp.asarray(boxes_shown.palette(len(metrics.class_names)))[label]
    return jnp.asarray(_of_objects(len(label)))


def draw_figures(metrics: InstanceMetrics, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """Returns the figures of boxes, and true and found masks side by side."""
    from cnnlab import figures

    rows = stats["rows"]
    if not rows:
        return {}
    count = min(*SHOWN.values(), len(rows["index"]))
    pictures, captions = [], []
    for place, image in enumerate(boxes_shown.stored_images(data, split, rows, np.arange(count))):
        for name, which in (("shown_true", TRUE), ("shown_found", FOUND)):
            owner, label = np.asarray(rows[name][place]), boxes_at(rows, which, place)["label"]
            pictures.append(painted(in_colour(image), owner, _colours(metrics, label)))
            captions.append(f"{which}: {len(np.unique(owner[owner != instances.NOBODY]))}")
    title = f"The first images of {split}: true masks, and those found with a score of at least {SURE}"
    legend = boxes_shown.legend(metrics) if len(metrics.class_names) > 1 else []
    masks = figures.image_grid(np.stack(pictures), captions, title=title, columns=8, legend=legend, inches=1.5)
    return {"masks": masks, **boxes_shown.draw_figures(metrics, stats, data, split)}
