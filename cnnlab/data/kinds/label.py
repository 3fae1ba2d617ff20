"""Labels: the number of one class for each example, i32 [N]."""

import dataclasses
from typing import Any

import numpy as np

from cnnlab.data.kinds.kind import Kind, Value, Values, described, refuse
from cnnlab.errors import DataError


@dataclasses.dataclass(frozen=True)
class Label(Kind):
    """The class of an example, of two or more."""

    names_outputs = True

    def check(self, values: Values, where: str) -> None:
        """Raises DataError for fewer than two classes, and for values that are no numbers of these classes."""
        classes = len(self.names)
        if classes < 2:
            raise DataError(
                f"{where}: the data set has {classes} class{'es' * (classes != 1)}; a classifier needs at least 2.\n"
                f"Found: {', '.join(self.names) or 'none'}.\nGive a data set whose labels name two classes or more."
            )
        if not isinstance(values, np.ndarray) or values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
            refuse(where, f"it is {described(values)}", "one integer for each example, [N]")
        wrong = np.flatnonzero((values < 0) | (values >= classes))
        if len(wrong):
            first = int(wrong[0])
            raise DataError(
                f"{where}: example {first} has label {values[first]}, outside [0, {classes}) "
                f"({len(wrong)} such example{'s' if len(wrong) > 1 else ''}).\nExpected the number of one of the {classes} "
                f"classes, counted from 0: {', '.join(self.names[:10])}{', …' if classes > 10 else ''}.\n"
                "Correct the labels, or declare the classes that are missing."
            )

    def occurrences(self, values: Values) -> np.ndarray:
        """Returns the number of examples of each class."""
        return np.bincount(values, minlength=len(self.names))

    def mixed(self, value: Value, partner: Value, share: Any) -> Value:
        """Returns the share of every class, f32 [K]: a soft label. The labels are numbers of classes, or soft already."""
        import jax

        own, other = (
            one if one.ndim else jax.nn.one_hot(one, len(self.names), dtype=jax.numpy.float32) for one in (value, partner)
        )
        return share * own + (1.0 - share) * other
