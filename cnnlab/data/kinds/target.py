"""Real targets of a regression: f32 [N, T], T numbers for each example."""

import dataclasses
from typing import Any

import numpy as np

from cnnlab.data.kinds.kind import Kind, Value, Values, described, refuse, require_finite


@dataclasses.dataclass(frozen=True)
class Target(Kind):
    """Numbers that a network shall predict; `names` are those of the numbers, T of them."""

    names_outputs = True

    def check(self, values: Values, where: str) -> None:
        """Raises DataError unless the values are finite numbers, T for each example."""
        if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype != np.float32:
            refuse(where, f"it is {described(values)}", "float32 [N, T], T numbers for each example")
        if self.names and len(self.names) != values.shape[1]:
            refuse(
                where, f"it has {values.shape[1]} numbers an example and {len(self.names)} names", "one name for each number"
            )
        require_finite(values, where)

    def mixed(self, value: Value, partner: Value, share: Any) -> Value:
        """Returns the weighted mean of both."""
        return share * value + (1.0 - share) * partner
