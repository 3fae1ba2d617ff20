"""Names of examples, such as the paths of their files or the patient that an image is of: texts, which stay on the host."""

import dataclasses

import numpy as np

from cnnlab.data.kinds.kind import Kind, Values, described, refuse


@dataclasses.dataclass(frozen=True)
class Name(Kind):
    """A text for each example, an array [N] of NumPy strings. Steps do not see it."""

    on_device = False

    def check(self, values: Values, where: str) -> None:
        """Raises DataError unless there is one text for each example."""
        if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind != "U":
            refuse(where, f"it is {described(values)}", "an array [N] of texts")
