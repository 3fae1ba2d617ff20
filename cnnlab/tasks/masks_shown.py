"""Masks as a person sees them: colours of classes, pictures of predictions, figures of a split.

Letters in shapes: N images of a split, H W space, C channels, K classes.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Params, Predicted, Prediction, PyTree, Stats
from cnnlab.data.placement import Placement
from cnnlab.inputs import InputSpec, unit_value
from cnnlab.ops import metrics_of_masks
from cnnlab.ops.metrics_of_counts import macro
from cnnlab.tasks.segmentation_metrics import MaskMetrics, predicted_classes

COLOURS = (
    *("#2b3038", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"),
    *("#8c564b", "#7fbf3f", "#9467bd", "#17becf", "#bc8f5a", "#e377c2", "#1b5e20", "#6b6ecf"),
    *("#b71c1c", "#c5b0d5", "#556b2f", "#f7b6d2", "#00838f", "#a1887f", "#827717", "#4a148c"),
)
"""Colours of the classes 0, 1, …; the first eight are those of Okabe and Ito (2008), with a dark grey in place of black."""
IGNORED = "#ffffff"
"""Colour of pixels that do not count."""
WRONG, RIGHT = np.asarray([213, 94, 0], np.float32) / 255, 0.35
"""Colour of a wrong pixel in the picture of errors, and brightness of the image elsewhere."""
OPACITY = 0.55
"""Share of a class's colour in a picture of a prediction."""
EXAMPLES = 6
"""Number of images in a figure."""


@functools.cache
def palette(metrics: MaskMetrics) -> np.ndarray:
    """Returns the colour of every value of a mask, f32 [256, 3] in [0, 1]; `ignore` and what is no class are white."""
    table = np.ones((256, 3), np.float32)
    table[: metrics.classes] = np.asarray(_class_colours(metrics), np.float32) / 255
    table[metrics.ignore] = 1.0
    return table


def _class_colours(metrics: MaskMetrics) -> list[tuple[int, ...]]:
    """Returns the colour (red, green, blue) of each class: that of the data, or the usual one."""
    return list(metrics.colours) or class_colours(metrics.classes)


def class_colours(classes: int) -> list[tuple[int, ...]]:
    """Returns the usual colour (red, green, blue) of each class: that of COLOURS, in lighter tones as they repeat."""
    found = []
    for number in range(classes):
        again, place = divmod(number, len(COLOURS))
        lighter = 1.0 - 0.6**again
        found.append(tuple(round(part + (255 - part) * lighter) for part in bytes.fromhex(COLOURS[place][1:])))
    return found


def prediction(metrics: MaskMetrics) -> Prediction:
    """The prediction of a mask: the class of every pixel, the share of the image that each class has, an overlay."""

    def arrays(logits: Array, images: Array) -> dict[str, Array]:
        return {"segmentation": predicted_classes(logits), "scores": logits}

    def rows(arrays: Predicted, inputs: InputSpec) -> list[dict[str, Any]]:
        return [{f"share_{name}": share for name, share in zip(metrics.class_names, _shares(arrays), strict=True)}]

    def caption(arrays: Predicted, inputs: InputSpec) -> str:
        shares = _shares(arrays)
        first = np.argsort(-shares, kind="stable")[:2]
        return ", ".join(f"{metrics.class_names[number]} {100 * shares[number]:.0f} %" for number in first)

    def _shares(arrays: Predicted) -> np.ndarray:
        mask = arrays["segmentation"]
        return np.bincount(mask.reshape(-1), minlength=metrics.classes)[: metrics.classes] / mask.size

    def picture(image: np.ndarray, arrays: Predicted) -> np.ndarray:
        return overlay(image, arrays["segmentation"], palette(metrics))

    def maps(image: np.ndarray, arrays: Predicted, place: Placement) -> dict[str, np.ndarray]:
        mask = at_own_size(arrays["scores"], place, metrics.ignore)
        shown = {"masks": mask, "overlays": overlay(image, mask, palette(metrics))}
        if metrics.published:
            numbers = np.zeros(256, np.uint8)
            numbers[: metrics.classes] = metrics.published
            shown["submission"] = numbers[mask]
        return shown

    colours = {"masks": np.rint(255 * palette(metrics)).astype(np.uint8)}
    example = "Image.fromarray(numpy.asarray(scores[0].argmax(-1), 'uint8')).save('MASK.png')  # numbers of class_names"
    return Prediction(arrays=arrays, rows=rows, caption=caption, picture=picture, maps=maps, palettes=colours, example=example)


def at_own_size(scores: np.ndarray, place: Placement, ignore: int) -> np.ndarray:
    """Returns the class of every pixel of an image at its own size, u8 [h, w].

    The scores are interpolated bilinearly before the largest is taken, so that borders are smoother than those of enlarged
    masks. Pixels that the network did not see, such as those outside of a crop, are `ignore`.

    Args:
        scores: f32 [H, W, K] of what the network saw.
        place: where the image lies in it.
        ignore: value of a pixel without a class.
    """
    from PIL import Image

    sides, mask = [], np.full(place.image, ignore, np.uint8)
    for axis in (0, 1):
        scale, offset, seen = place.scale[axis], place.offset[axis], place.size[axis]
        first, last = max(0.0, -offset / scale), min(float(place.image[axis]), (seen - offset) / scale)
        first, last = math.ceil(first - 1e-6), math.floor(last + 1e-6)  # whole pixels of the image that were seen
        sides.append((first, last, first * scale + offset, last * scale + offset))
    (top, bottom, high, low), (left, right, near, far) = sides
    box = (near, high, min(far, float(place.size[1])), min(low, float(place.size[0])))
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(scores, -1, 0).astype(np.float32)]
    size = (right - left, bottom - top)
    enlarged = np.stack([np.asarray(plane.resize(size, Image.Resampling.BILINEAR, box=box)) for plane in planes])
    mask[top:bottom, left:right] = enlarged.argmax(axis=0)  # [K, h, w] -> [h, w]
    return mask


def overlay(image: np.ndarray, mask: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Returns an image f32 [H, W, C] in [0, 1] under the colours f32 [256, 3] of a mask [H, W]: f32 [H, W, 3]."""
    return (1 - OPACITY) * in_colour(image) + OPACITY * colours[mask]


def in_colour(images: np.ndarray) -> np.ndarray:
    """Returns images f32 [..., H, W, C] in [0, 1] with three channels; of other numbers of channels than 3 the mean is grey."""
    clipped = np.clip(np.nan_to_num(images), 0, 1)
    return clipped if clipped.shape[-1] == 3 else np.repeat(clipped.mean(axis=-1, keepdims=True), 3, axis=-1)


def draw_figures(
    metrics: MaskMetrics,
    predict: Callable[[Params, PyTree, Array], Array],
    params: Params,
    model_state: PyTree,
    stats: Stats,
    data: Dataset,
    split: str,
) -> dict[str, Any]:
    """Returns the confusion matrix of pixels, the IoU of each class, and images with their masks: the first and the worst."""
    from cnnlab import figures

    rows = stats["rows"]
    if not rows:
        return {}
    each = np.asarray(rows["confusion"], np.float64)
    counts = each.sum(axis=0)
    names, by_class = figures.class_labels(metrics.class_names), metrics_of_masks.ious(counts)
    note = f"pooled over {len(each)} images; mean of the classes that occur {100 * macro(by_class):.1f} %"
    shown = {
        "confusion_matrix": figures.confusion_matrix(counts, metrics.class_names),
        "class_iou": figures.bars(by_class.tolist(), names, title=f"Intersection over union on {split}", note=note),
    }
    by_image = metrics_of_masks.means(metrics_of_masks.ious(each))
    worst = np.argsort(np.nan_to_num(by_image, nan=2.0), kind="stable")[:EXAMPLES]
    count = len(worst)  # the first ones are as many
    places = np.concatenate([np.arange(count), worst])
    positions = np.asarray(rows["index"])[places]
    batch, stored = examples(data, split, positions), data.images(split, positions)
    guess = np.asarray(predicted_classes(predict(params, model_state, batch["image"])))
    images = in_colour(stored.astype(np.float32) / unit_value(stored.dtype))
    truth = np.asarray(batch[metrics.column])
    titles = {"masks": f"The first images of {split}", "worst_masks": f"The images of {split} with the lowest IoU"}
    for name, part in (("masks", slice(count)), ("worst_masks", slice(count, None))):
        shown[name] = _sheet(metrics, images[part], truth[part], guess[part], by_image[places[part]], names, titles[name])
    return shown


def examples(data: Dataset, split: str, positions: np.ndarray) -> Batch:
    """Returns the prepared batch of the examples at some positions of a split, in this order."""
    wanted = np.asarray(positions, np.int32)
    if data.is_resident(split):
        feed: dict[str, Any] = {"index": wanted, "mask": np.ones(len(wanted), bool)}
        return data.prepare(data.resident[split], feed, None)
    found: dict[int, dict[str, Any]] = {}
    for feed in data.evaluate(split, data.batch_size):
        for place, index in enumerate(np.asarray(feed["index"]).tolist()):
            if feed["mask"][place] and index in wanted and index not in found:
                found[index] = jax.tree.map(lambda values, place=place: np.asarray(values)[place], dict(feed))
        if len(found) == len(set(wanted.tolist())):
            break
    feed = jax.tree.map(lambda *values: np.stack(values), *(found[index] for index in wanted.tolist()))
    return data.prepare({}, feed, None)


def _sheet(
    metrics: MaskMetrics,
    images: np.ndarray,
    truth: np.ndarray,
    guess: np.ndarray,
    by_image: np.ndarray,
    names: list[str],
    title: str,
) -> Any:
    """Returns the figure of images [N, H, W, 3], each with its true mask, the predicted one and where they differ."""
    from cnnlab import figures

    colours = palette(metrics)
    counts = truth != metrics.ignore
    wrong = (truth != guess) & counts
    dimmed = RIGHT * images.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    errors = np.where(wrong[..., None], WRONG, np.where(counts[..., None], dimmed, 1.0))
    guess = np.where(counts, guess, metrics.ignore)  # what does not count is not shown as a prediction
    # four of [N, H, W, 3] -> [N, 4, H, W, 3] -> [4 N, H, W, 3]
    pictures = np.stack([images, colours[truth], colours[guess], errors], axis=1).reshape(-1, *images.shape[1:])
    captions = [text for iou in by_image for text in ("image", "truth", "prediction", f"errors, IoU {100 * iou:.0f} %")]
    present = sorted(set(np.unique(truth)) | set(np.unique(guess)))
    colours_drawn = ["#" + bytes(colour).hex() for colour in _class_colours(metrics)]
    legend = [(names[number], colours_drawn[number]) for number in present if number < metrics.classes]
    legend += [("not counted", IGNORED)] if metrics.ignore in present else []
    return figures.image_grid(pictures, captions, title=title, columns=8, legend=legend, inches=1.3)
