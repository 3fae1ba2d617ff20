"""The predictions for some images, as Python has them; and the images that Python gives.

Letters in shapes: N images, H W space, C channels.
"""

import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlab.core import Prediction
from cnnlab.data.decode import pixels_of
from cnnlab.data.npz_files import checked_images
from cnnlab.errors import DataError, UsageError
from cnnlab.inputs import InputSpec
from cnnlab.predict.find import Found, find_images
from cnnlab.predict.predictor import PredictedImage, Predictor
from cnnlab.predict.write import SHEET, draw_sheet, pictures_of, rows_of
from cnnlab.python.frames import frame

if TYPE_CHECKING:
    from PIL import Image


class Predictions(Mapping[str, np.ndarray]):
    """The predictions for N images: a mapping from names to arrays [N, …], such as `predictions["probabilities"]`."""

    def __init__(self, images: Sequence[PredictedImage], prediction: Prediction, inputs: InputSpec) -> None:
        """Stacks the arrays of the images, which are at least one."""
        self._images, self._prediction, self._inputs = images, prediction, inputs
        self._arrays = {name: np.stack([one.arrays[name] for one in images]) for name in images[0].arrays}  # N of […] -> [N, …]

    def __getitem__(self, name: str) -> np.ndarray:
        """Returns the array of a name, [N, …]."""
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in self._arrays.items())
        return f"Predictions of {len(self._images)} images: {shapes}"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of all classes, in the order of their numbers."""
        return self._inputs.class_names

    @property
    def classes(self) -> list[str]:
        """The name of the predicted class of each image; empty texts where the task predicts none."""
        return [self._prediction.label(one.arrays, self._inputs) for one in self._images]

    @property
    def names(self) -> list[str]:
        """The path of each image, or its number where it came as an array."""
        return [one.found.name for one in self._images]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the table that `launch.py predict --to=FILE.csv` writes."""
        return list(rows_of(self._images, self._prediction, self._inputs))

    def frame(self) -> Any:
        """Returns the rows as a pandas.DataFrame; needs pandas."""
        return frame(self.rows)

    def pictures(self, kind: str | None = None) -> "list[Image.Image]":
        """Draws each image at its own size with what was predicted, as `launch.py predict --to=FOLDER` writes it.

        Args:
            kind: which of several pictures, such as masks or overlays, boxes or instances; None: the last one.
        """
        drawn = [pictures_of(one, self._prediction) for one in self._images]
        if kind is not None and kind not in drawn[0]:
            raise UsageError(f"these predictions have no pictures {kind!r}.\nThere are: {', '.join(drawn[0]) or 'plain ones'}.")
        return [list(pictures.values())[-1] if kind is None else pictures[kind] for pictures in drawn]

    def sheet(self) -> "Image.Image":
        """Draws the first 100 pictures with their captions; returns a Pillow image, which a notebook shows."""
        from PIL import Image

        from cnnlab import figures

        drawn = draw_sheet(self._images[:SHEET], self._prediction, self._inputs, count=len(self._images))
        return Image.fromarray(figures.as_pixels(drawn))


def predict_images(predictor: Predictor, images: Any) -> Predictions:
    """Returns the predictions for whatever images Python gives (`found_images`).

    Raises DataError, which names the image, where one cannot be read, and UsageError where there are none.
    """
    found = found_images(images, channels=predictor.inputs.image_shape[2])
    if not found:
        raise UsageError("there are no images to predict: the list is empty.")

    def refuse(one: Found, reason: str) -> None:
        raise unreadable(one, reason)

    # A power of two, so that calls with other numbers of images compile few programs.
    size = predictor.batch_size(1 << (len(found) - 1).bit_length())
    return Predictions(list(predictor.each(found, refuse, batch_size=size)), predictor.prediction, predictor.inputs)


def unreadable(one: Found, reason: object) -> DataError:
    """Returns the error of an image that cannot be read."""
    return DataError(f"{one.name}: {reason}.\nLeave it out, or repair it.")


def found_images(images: Any, *, channels: int) -> list[Found]:
    """Returns the images of a path, an array, a Pillow image, or a sequence of these.

    Args:
        images: path of a file, a folder or an .npz; array u8, or float in [0, 1], [N, H, W, C], [H, W, C], [N, H, W] where the
            network takes one channel, or [H, W]; a Pillow image; or a sequence of these.
        channels: number of channels that the network takes.
    """
    from PIL import Image, ImageOps

    if isinstance(images, str | pathlib.Path):
        return list(find_images([str(images)]).images)
    if isinstance(images, Image.Image):
        try:
            return [Found("[0]", "[0]", pixels_of(ImageOps.exif_transpose(images)))]  # upright, as the same image in a file
        except OSError as error:
            raise DataError(f"a Pillow image cannot be decoded: {error}.\nLeave it out, or repair its file.") from None
    if hasattr(images, "shape"):
        array = np.asarray(images)
        if array.ndim == 2:
            array = array[None, ..., None]  # [H, W] -> [1, H, W, 1]
        elif array.ndim == 3 and not (channels == 1 and array.shape[2] not in (1, 3)):
            array = array[None]  # [H, W, C] -> [1, H, W, C]
        checked, _ = checked_images("the array of images", array)
        return [Found(f"[{number}]", f"[{number}]", image) for number, image in enumerate(np.asarray(checked))]
    if isinstance(images, Sequence):
        parts = [found_images(image, channels=channels) for image in images]
        flat = enumerate(itertools.chain.from_iterable(parts))
        # An image without a path is known by its place in the whole sequence.
        return [one if isinstance(one.source, pathlib.Path) else Found(f"[{n}]", f"[{n}]", one.source) for n, one in flat]
    raise UsageError(
        f"images of type {type(images).__name__} cannot be predicted.\n"
        "Expected a path, a NumPy array, a Pillow image, or a list of these."
    )
