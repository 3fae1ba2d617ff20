"""Boxes around objects: corners in pixels, the class of each, and which of the M places hold a box."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnnlab.data.kinds.kind import Kind, Value, Values, refuse, require_arrays, require_finite, require_numbers_of_classes
from cnnlab.data.placement import Placement, moved_points
from cnnlab.ops.objects import SCALE
from cnnlab.text import counted, listed

if TYPE_CHECKING:  # jax is needed on the device alone
    from cnnlab.data.motion import Motion

FLAGS = ("crowd", "difficult")
"""Arrays bool [N, M] that a column may also have. A crowd stands for many objects that nobody told apart, and a difficult one
need not be found: neither counts as missed in evaluation. Training leaves crowds and what lies on them out, and learns
difficult objects as the others (Liu et al. 2016, arXiv 1512.02325, in the authors' code)."""
AREA = "area"
"""An array f32 [N, M] that a column may also have: the area of each object in square pixels of the image itself, where it is
not that of its box. COCO's is that of the object's mask, by which its metrics tell small objects from large ones."""
TOLERANCE = 0.5
"""Pixels by which a box may reach beyond its image: annotations are rounded."""


@dataclasses.dataclass(frozen=True)
class Corners(Kind):
    """What all kinds of boxes have in common: at most M of them for each example, and how they follow their image.

    The value is a dict: `corners` f32 [N, M, 4], (x1, y1, x2, y2) in pixels, x to the right and y down, continuous, so that the
    whole image is (0, 0, W, H); `valid` bool [N, M]; and what a subclass adds. The content of places that are not valid counts
    for nothing.
    """

    is_spatial = True

    least_remaining: float = 0.25
    """Share of its area that a box keeps at least when a variation moves it across the border; with less it is not valid."""

    def check(self, values: Values, where: str) -> None:
        """Raises DataError unless valid boxes have a positive area."""
        require_boxes(values, where, {})

    def check_on(self, values: Values, sizes: np.ndarray, where: str) -> None:
        """Raises DataError where a valid box reaches beyond its image."""
        outside = values["valid"] & beyond(values["corners"], sizes)
        if outside.any():
            example, place = (int(axis[0]) for axis in np.nonzero(outside))
            height, width = sizes[example].tolist()
            refuse(
                where,
                f"box {place} of example {example} is {values['corners'][example, place].tolist()} on an image of {width} x "
                f"{height} pixels ({int(outside.sum())} such)",
                "(x1, y1, x2, y2) in pixels within (0, 0, W, H)",
                'Clip or drop such boxes with kinds.boxes.sound_boxes(…, policy="clip" or "drop").',
            )

    def fitted(self, values: Values, place: Callable[[int], Placement]) -> Values:
        """Returns the boxes on the fitted images, clipped to them; a box outside is not valid."""
        corners = values["corners"]
        shape = (*corners.shape[:2], 2, 2)
        moved = moved_points(corners.reshape(shape), place)  # [N, M, 4] -> [N, M, 2, 2]: two corners of (x, y)
        sides = np.array([place(number).size[::-1] for number in range(len(corners))], np.float32)  # [N, 2]: width, height
        # [N, M, 2, 2] -> [N, M, 4]
        clipped = np.clip(moved, 0, sides[:, None, None, :]).reshape(corners.shape)
        inside = (clipped[..., 2] > clipped[..., 0]) & (clipped[..., 3] > clipped[..., 1])
        return {**values, "corners": clipped, "valid": values["valid"] & inside}

    def moved(self, value: Value, motion: "Motion") -> Value:
        """Returns the boxes around the moved corners, clipped to the image; one with too little of its area left is invalid."""
        import jax.numpy as jnp

        x1, y1, x2, y2 = jnp.moveaxis(value["corners"], -1, 0)  # [M, 4] -> four of [M]
        points = motion.points(jnp.stack([jnp.stack([x1, x2, x2, x1], -1), jnp.stack([y1, y1, y2, y2], -1)], -1))  # [M, 4, 2]
        low, high = jnp.min(points, axis=1), jnp.max(points, axis=1)  # [M, 2] each
        sides = jnp.asarray(motion.size[::-1], points.dtype)[None]
        seen_low, seen_high = jnp.clip(low, 0.0, sides), jnp.clip(high, 0.0, sides)
        area, seen = (jnp.prod(end - begin, axis=1) for begin, end in ((low, high), (seen_low, seen_high)))
        remains = (seen > 0) & (seen >= self.least_remaining * area)
        return {**value, "corners": jnp.concatenate([seen_low, seen_high], axis=1), "valid": value["valid"] & remains}


@dataclasses.dataclass(frozen=True)
class Boxes(Corners):
    """Boxes around objects, each of a class: beside the corners `label` i32 [N, M], flags bool [N, M], those of FLAGS that the
    source has, AREA where it has it, and on fitted images SCALE, f32 [N, 2].
    """

    names_outputs = True

    published: tuple[int, ...] = ()
    """The number of each class in the publisher's files, and in results for it; (): they count from 1."""

    def check(self, values: Values, where: str) -> None:
        """Raises DataError unless valid boxes have a positive area and a class."""
        flags = [flag for flag in FLAGS if isinstance(values, dict) and flag in values]
        area: dict[str, Any] = {AREA: (np.float32, 2, ())} if isinstance(values, dict) and AREA in values else {}
        require_boxes(values, where, {"label": (np.int32, 2, ()), **dict.fromkeys(flags, (np.bool_, 2, ())), **area})
        require_finite(values.get(AREA, values["corners"]), where)
        require_numbers_of_classes(np.where(values["valid"], values["label"], 0), len(self.names), where)

    def occurrences(self, values: Values) -> np.ndarray:
        """Returns the number of boxes of each class."""
        return np.bincount(values["label"][values["valid"]], minlength=len(self.names))

    def fitted(self, values: Values, place: Callable[[int], Placement]) -> Values:
        """Returns the boxes on the fitted images, with SCALE."""
        scale = np.array([place(number).scale for number in range(len(values["valid"]))], np.float32)
        return {**super().fitted(values, place), SCALE: scale.reshape(-1, 2)}


def require_boxes(values: Values, where: str, more: dict[str, tuple[type[Any], int, Sequence[int | None]]]) -> None:
    """Raises DataError unless a column has corners of valid boxes with an area, and arrays of the other types.

    Args:
        values: the column.
        where: the source, split and column, for the error.
        more: what the column has beside corners and valid, as of `require_arrays`.
    """
    types: dict[str, tuple[type[Any], int, Sequence[int | None]]] = {
        "corners": (np.float32, 3, (4,)),
        "valid": (np.bool_, 2, ()),
    }
    require_arrays(values, where, types | more)
    corners, valid = values["corners"], values["valid"]
    if any(array.shape[:2] != valid.shape for array in values.values()):
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in values.items())
        expected = " and ".join([f"{name} [N, M]" for name in types | more if name != "corners"])
        refuse(where, f"its arrays differ in size: {shapes}", f"corners [N, M, 4], {expected}")
    require_finite(corners, where)
    empty = valid & ((corners[..., 2] <= corners[..., 0]) | (corners[..., 3] <= corners[..., 1]))
    if empty.any():
        example, place = (int(axis[0]) for axis in np.nonzero(empty))
        refuse(
            where,
            f"box {place} of example {example} is {corners[example, place].tolist()} ({int(empty.sum())} such)",
            "x1 < x2 and y1 < y2",
            "Mark boxes without an area as not valid, or repair all with kinds.boxes.sound_boxes.",
        )


def beyond(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Returns whether each box f32 [N, M, 4] reaches beyond its image of (H, W) i32 [N, 2], bool [N, M]."""
    sides = sizes[:, None, ::-1].astype(np.float32)  # [N, 2] -> [N, 1, 2]: width, height
    return np.asarray(((corners[..., :2] < -TOLERANCE) | (corners[..., 2:] > sides + TOLERANCE)).any(axis=-1))


def sound_boxes(
    values: Values, sizes: np.ndarray, where: str, *, policy: Literal["clip", "drop", "error"] = "clip"
) -> tuple[Values, list[str]]:
    """Returns boxes of which those that cannot be used are not valid, and remarks with their number and the first ones.

    A box without an area, or with a number that is not finite, is dropped; one that reaches beyond its image is clipped.

    Args:
        values: corners f32 [N, M, 4], label i32 [N, M] and valid bool [N, M], as of `Boxes`.
        sizes: (H, W) of each image, i32 [N, 2].
        where: the source, split and column, for remarks and the error.
        policy: drop: a box that reaches beyond its image is dropped, too; error: boxes that are not sound are a DataError.
    """
    corners, valid = values["corners"], values["valid"]
    finite = np.isfinite(corners).all(axis=-1)  # [N, M, 4] -> [N, M]
    corners = np.where(finite[..., None], corners, np.float32(0))
    outside = valid & finite & beyond(corners, sizes)
    sides = np.tile(sizes[:, None, ::-1], (1, 1, 2)).astype(np.float32)  # [N, 2] -> [N, 1, 4]: width, height, width, height
    clipped = np.clip(corners, 0, sides)
    has_area = (clipped[..., 2] > clipped[..., 0]) & (clipped[..., 3] > clipped[..., 1])
    found = {
        "with a number that is not finite": valid & ~finite,
        "without an area": valid & finite & ~has_area,
        "beyond their image": outside & has_area,
    }
    remarks = []
    for what, which in found.items():
        if not which.any():
            continue
        places = [f"{example}[{place}]" for example, place in np.argwhere(which).tolist()]
        text = f"{counted(len(places), 'box', 'boxes')} {what}: number {listed(places, 3)}"
        if policy == "error":
            refuse(where, text, "finite corners with x1 < x2 and y1 < y2 on the image", "Correct them, or clip or drop them.")
        is_clipped = policy == "clip" and what == "beyond their image"
        remarks.append(f"{where}: {text}, {'clipped' if is_clipped else 'left out'}")
    kept = valid & finite & has_area & (~outside if policy == "drop" else True)
    return {**values, "corners": clipped, "valid": kept}, remarks
