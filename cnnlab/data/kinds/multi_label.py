"""Several labels at once: for each example and class whether it applies, f32 [N, K] of 0 and 1."""

import dataclasses
from typing import Any

import numpy as np

from cnnlab.data.kinds.kind import Kind, Value, Values, described, refuse


@dataclasses.dataclass(frozen=True)
class MultiLabel(Kind):
    """The classes of an example, any number of them."""

    names_outputs = True

    def check(self, values: Values, where: str) -> None:
        """Raises DataError unless every value is 0 or 1 and there is one for each class."""
        classes = len(self.names)
        if not isinstance(values, np.ndarray) or values.shape[1:] != (classes,) or values.dtype != np.float32:
            refuse(
                where,
                f"it is {described(values)}",
                f"float32 [N, {classes}], a column for each class: {', '.join(self.names[:10])}",
            )
        wrong = np.flatnonzero(((values != 0) & (values != 1)).any(axis=1))
        if len(wrong):
            refuse(
                where, f"example {wrong[0]} has a value that is neither 0 nor 1 ({len(wrong)} such)", "0 or 1 for each class"
            )

    def occurrences(self, values: Values) -> np.ndarray:
        """Returns the number of examples to which each class applies."""
        return (values != 0).sum(axis=0)  # [N, K] -> [K]

    def mixed(self, value: Value, partner: Value, share: Any) -> Value:
        """Returns the weighted mean of both, for each class a number in [0, 1]."""
        return share * value + (1.0 - share) * partner
