"""Boxes that may hold an object, such as those of selective search, from which a detector learns and among which it chooses."""

import dataclasses

from cnnlab.data.kinds.boxes import Corners

PROPOSALS = "proposals"
"""The name of this column."""


@dataclasses.dataclass(frozen=True)
class Proposals(Corners):
    """At most R boxes for each example, the likelier ones first: `corners` f32 [N, R, 4] and `valid` bool [N, R]."""
