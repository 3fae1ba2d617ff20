"""The base of all kinds of columns: how the values of a column are checked, brought to the size of the images, and described.

Letters in shapes: N examples of a split, H W space, M objects of an image at most, K classes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cnnlab.data.placement import Placement
from cnnlab.errors import DataError, UsageError
from cnnlab.text import printable

if TYPE_CHECKING:  # jax is needed on the device alone
    from cnnlab.data.motion import Motion

Values = Any
"""The values of a column on the host: an array [N, …], a dict of such arrays, or something that is decoded on request
(source.LazyImages)."""
Value = Any
"""The value of one example: an array, or a dict of arrays."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a column holds. The methods of this class leave a value as it is; a subclass changes what its kind needs.

    A column goes this way: `check` where the source is opened; `fitted` where images are brought to one size;
    then onto the device, unless `on_device` is False; there `moved`, `mixed` and `pasted` by the variations of training.
    """

    on_device: ClassVar[bool] = True
    """Whether steps see the column. A column that is False stays on the host, such as the names of files."""
    is_spatial: ClassVar[bool] = False
    """Whether the values lie on the image and move with it."""
    takes_precision: ClassVar[bool] = False
    """Whether the values are cast to the dtype in which the network computes, as images are. Targets and places on the image
    stay as they are: bfloat16 has 8 bits."""
    names_outputs: ClassVar[bool] = False
    """Whether `names` are those of what a network predicts: classes, labels or numbers."""

    names: tuple[str, ...] = ()
    """The names of the classes, points or tokens, in the order of their numbers; (): there are none."""

    def check(self, values: Values, where: str) -> None:
        """Raises DataError where values are not of this kind.

        Args:
            values: the column of a split.
            where: the source, split and column, for the error.
        """

    def check_on(self, values: Values, sizes: np.ndarray, where: str) -> None:
        """Raises DataError where the values of a spatial column do not lie on their images.

        Args:
            values: the column of a split.
            sizes: (H, W) of each image, i32 [N, 2].
            where: the source, split and column, for the error.
        """

    def occurrences(self, values: Values) -> "np.ndarray | None":
        """Returns how often each class occurs in a column, i64 [K]; None where none are counted, as on the disk."""
        return None

    def fitted(self, values: Values, place: Callable[[int], Placement]) -> Values:
        """Returns the values of a spatial column after its images were brought to one size, on the host.

        Args:
            values: the column of a split.
            place: position in the split -> where the image lies within the fitted one.
        """
        return values

    def moved(self, value: Value, motion: "Motion") -> Value:
        """Returns the value of one example after its image was moved, on the device."""
        return value

    def mixed(self, value: Value, partner: Value, share: Any) -> Value:
        """Returns the value of one example that is mixed with its partner, on the device.

        Args:
            value: the value.
            partner: the value of the other example.
            share: share of the example itself, f32 [] in [0, 1].

        Raises UsageError for a kind of which there are no mixtures.
        """
        raise UsageError(
            f"mixup and cutmix: there is no mixture of two values of the kind {type(self).__name__}.\n"
            "Expected images with labels, several labels or targets. Leave these variations out of --augment."
        )

    def pasted(self, value: Value, partner: Value, region: Any, share: Any) -> Value:
        """Returns the value of one example into whose image a region of its partner's was pasted, on the device.

        Args:
            value: the value.
            partner: the value of the other example.
            region: whether each pixel is the partner's, bool [H, W].
            share: share of the pixels that are the example's own, f32 [].
        """
        return self.mixed(value, partner, share)


def leaves(values: Values) -> list[Any]:
    """Returns the arrays of a column: its own, or those of its dict."""
    return list(values.values()) if isinstance(values, dict) else [values]


def each_leaf(function: Callable[[Any], Any], values: Values) -> Any:
    """Returns what a function gives for the array of a column, or a dict of what it gives for each of its arrays."""
    return {name: function(array) for name, array in values.items()} if isinstance(values, dict) else function(values)


def count(values: Values) -> int:
    """Returns the number of examples in a column."""
    return len(leaves(values)[0])


def shape_of(leaf: Any) -> tuple[int | None, ...]:
    """Returns the shape of one example's value in an array [N, …] or in images that are decoded on request."""
    return tuple(leaf.image_shape) if hasattr(leaf, "image_shape") else leaf.shape[1:]


def described(values: Any) -> str:
    """Returns the type and shape of an array, or what else it is, for errors."""
    return f"{values.dtype} {list(values.shape)}" if isinstance(values, np.ndarray) else type(values).__name__


def refuse(where: str, found: str, expected: str, fix: str = "") -> None:
    """Raises DataError for a column."""
    raise DataError(f"{where}: {found}.\nExpected {expected}." + (f"\n{fix}" if fix else ""))


def require_arrays(values: Values, where: str, types: dict[str, tuple[type[Any], int, Sequence[int | None]]]) -> None:
    """Raises DataError unless a column is a dict of arrays of these types.

    Args:
        values: the column.
        where: the source, split and column, for the error.
        types: {name: (NumPy type, number of axes, sizes of the last axes or None for any)}.
    """
    expected = ", ".join(f"{name} {kind.__name__} of {axes} axes" for name, (kind, axes, _) in types.items())
    if not isinstance(values, dict) or set(values) != set(types):
        found = f"a dict of {', '.join(values)}" if isinstance(values, dict) else type(values).__name__
        refuse(where, f"it is {found}", f"a dict of arrays: {expected}")
    for name, (kind, axes, sizes) in types.items():
        array = values[name]
        fits = isinstance(array, np.ndarray) and array.ndim == axes and array.dtype == kind
        last = array.shape[axes - len(sizes) :] if fits else ()
        if not fits or any(size not in (None, here) for size, here in zip(sizes, last, strict=True)):
            refuse(where, f"{name} is {described(array)}", f"{expected}, the same number of objects M in every example")


def require_finite(values: np.ndarray, where: str) -> None:
    """Raises DataError where a number is NaN or infinite."""
    wrong = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))  # [N, …] -> [N]
    if len(wrong):
        refuse(where, f"example {wrong[0]} has a value that is not finite ({len(wrong)} such)", "finite numbers")


def require_size_of_images(values: Values, sizes: np.ndarray, where: str) -> None:
    """Raises DataError where maps [N, …, H, W] have another size than their images, as far as it is known before they are read.

    Args:
        values: the maps, in memory or decoded on request.
        sizes: (H, W) of each image, i32 [N, 2].
        where: the source, split and column, for the error.
    """
    own = getattr(values, "sizes", None)
    if own is None:
        if None in (shape := shape_of(values)[-2:]):
            return
        own = np.broadcast_to(np.array(shape, np.int32), sizes.shape)
    wrong = np.flatnonzero((own != sizes).any(axis=1))  # [N, 2] -> [N]
    if len(wrong):
        first = int(wrong[0])
        names = getattr(values, "names", ())
        example = f"example {first}{f' ({printable(names[first])})' if len(names) else ''}"
        (height, width), (high, wide) = own[first].tolist(), sizes[first].tolist()
        refuse(
            where,
            f"{example} is {width} x {height} pixels, and its image {wide} x {high} ({len(wrong)} such)",
            "a value for each pixel of the image",
            "Write both at one size. Pixels without a class get the ignore value, not another size.",
        )


def require_numbers_of_classes(values: np.ndarray, classes: int, where: str, *, also: Sequence[int] = ()) -> None:
    """Raises DataError where an integer is neither the number of a class nor one of `also`, such as an ignore value."""
    wrong = ((values < 0) | (values >= classes)) & ~np.isin(values, also)
    if wrong.any():
        place = tuple(int(axis[0]) for axis in np.nonzero(wrong))
        more = f" or {', '.join(map(str, also))}" if also else ""
        refuse(
            where,
            f"example {place[0]} holds {values[place]} ({int(wrong.sum())} such values)",
            f"numbers of classes, 0 to {classes - 1}{more}",
        )
