"""The input of a trained function: the images that it takes, what is done to them before the network, and its classes.

It belongs to what was trained, as the weights do: a run keeps it in each checkpoint; `evaluate`, `sample` and `export` use the
one that is kept there and never statistics of the data at hand; and it is written beside an exported network. Imports no jax.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnlab.digests import arrays_digest


@dataclasses.dataclass(frozen=True, eq=False)
class InputSpec:
    """What a network takes, and how it is normalised: the network sees (image - subtract) / divide, multiplied by `whiten`."""

    image_shape: tuple[int, int, int]
    """(H, W, C) as the network sees an image."""
    dtype: str
    """`uint8`, whose values are 0 … 255, or `float32`, whose values are as the data store them ([0, 1] as a rule)."""
    subtract: np.ndarray
    """f32 [1, H or 1, W or 1, C or 1], in the unit of the stored values."""
    divide: np.ndarray
    """As `subtract`."""
    class_names: tuple[str, ...]
    """The names of the classes, in the order of their numbers."""
    fit: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"name": "none"})
    """How images of other sizes are brought to this one: `name` (resize, crop, pad, or none where the data have one size), and
    the settings of that rule."""
    others: Mapping[str, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)
    """{column: (subtract, divide)} of the columns of images beside `image`, in the unit of their stored values."""
    whiten: np.ndarray | None = None
    """f32 [D, D] for the D = H · W · C numbers of an image: the matrix by which a row of them is multiplied last; None: none.
    As JSON it is its digest alone: a run keeps the matrix in a file of its own."""

    @property
    def whitening_digest(self) -> str | None:
        """The SHA-256 of the matrix; None without one."""
        return None if self.whiten is None else arrays_digest({"whiten": self.whiten})

    def for_dtype(self, dtype: str) -> "InputSpec":
        """Returns the same function of images that are stored in another type: 1 as a float is 255 as u8."""
        if dtype == self.dtype:
            return self
        ratio = np.float32(unit_value(dtype) / unit_value(self.dtype))
        return dataclasses.replace(self, dtype=dtype, subtract=self.subtract * ratio, divide=self.divide * ratio)

    def as_json(self) -> dict[str, Any]:
        """Returns JSON-like content for checkpoints and exported networks; f32 numbers come back bit for bit."""
        height, width, channels = self.image_shape
        others = {
            name: {"subtract": subtract.tolist(), "divide": divide.tolist()} for name, (subtract, divide) in self.others.items()
        }
        value_range = [0, 255] if self.dtype == "uint8" else "as the data store them"
        whitening = {} if self.whiten is None else {"whitening": self.whitening_digest}
        return {
            "image": {"height": height, "width": width, "channels": channels, "dtype": self.dtype, "range": value_range},
            "fit": dict(self.fit),
            "normalization": {"subtract": self.subtract.tolist(), "divide": self.divide.tolist(), **whitening},
            "class_names": list(self.class_names),
        } | ({"other_images": others} if others else {})

    @classmethod
    def from_json(cls, content: Mapping[str, Any], matrix_of: Callable[[str], np.ndarray] | None = None) -> "InputSpec":
        """Returns the specification that `as_json` described.

        Args:
            content: the description.
            matrix_of: digest -> the matrix that whitens; None: there is none.
        """
        image, numbers = content["image"], content["normalization"]
        whitening = numbers.get("whitening")
        assert matrix_of or whitening is None, "a specification that whitens needs its matrix"
        return cls(
            image_shape=(image["height"], image["width"], image["channels"]),
            dtype=image["dtype"],
            subtract=np.asarray(numbers["subtract"], np.float32),
            divide=np.asarray(numbers["divide"], np.float32),
            class_names=tuple(content["class_names"]),
            fit=content["fit"],
            others={
                name: (np.asarray(numbers["subtract"], np.float32), np.asarray(numbers["divide"], np.float32))
                for name, numbers in content.get("other_images", {}).items()
            },
            whiten=matrix_of(whitening) if matrix_of and whitening else None,
        )

    def is_same(self, other: "InputSpec") -> bool:
        """Returns whether two specifications agree in everything, to the bit."""
        return self.as_json() == other.as_json()


def fit_in_words(fit: Mapping[str, Any]) -> str:
    """Returns a rule by which images are brought to size with its settings, such as `crop fraction=0.875 filter=bicubic`."""
    return " ".join([fit["name"], *(f"{name}={value}" for name, value in fit.items() if name != "name")])


def unit_value(dtype: str | np.dtype) -> float:
    """Returns the stored value that stands for 1: 255 for u8, else 1."""
    return 255.0 if np.dtype(dtype) == np.uint8 else 1.0
