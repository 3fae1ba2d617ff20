"""Text as numbers of tokens: i32 [N, T]."""

import dataclasses

import numpy as np

from cnnlab.data.kinds.kind import Kind, Values, described, refuse, require_numbers_of_classes

PADDING = -1
"""The number behind the end of a text that is shorter than T."""


@dataclasses.dataclass(frozen=True)
class Tokens(Kind):
    """A text of T tokens for each example; `names` are the tokens of the vocabulary, such as characters."""

    def check(self, values: Values, where: str) -> None:
        """Raises DataError unless the values are numbers of tokens, or -1 behind the end of a text."""
        if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype != np.int32:
            refuse(where, f"it is {described(values)}", "int32 [N, T], the number of a token for each place")
        require_numbers_of_classes(values, len(self.names), where, also=(PADDING,))
