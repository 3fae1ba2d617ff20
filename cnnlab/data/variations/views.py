"""Two views of every example, for tasks that compare them: two independent draws of one list of variations."""

import dataclasses

from cnnlab.core import Array
from cnnlab.data.variations.compose import Augmentation
from cnnlab.data.variations.examples import Examples, folded

SECOND = "_2"
"""Ending of the names of the second view's columns: `image_2`."""


@dataclasses.dataclass(frozen=True)
class TwoViews:
    """Varies every example twice, and adds the second image, and all that lies on it, as columns of their own.

        views = TwoViews(Augmentation((random_resized_crop, flip, color_jitter)))
        views(examples, keys).columns  # image, image_2, label

    Columns that do not lie on the image, such as the label, stand there once, as the first view has them.
    """

    augment: Augmentation

    @property
    def columns(self) -> tuple[str, ...]:
        """Returns the names of the feed's columns that a variation asks for."""
        return self.augment.columns

    def __call__(self, examples: Examples, keys: Array, **columns: Array) -> Examples:
        """Returns both views; each draws from a stream of its own below the example's key."""
        first, second = (self.augment(examples, folded(keys, stream), **columns) for stream in (0, 1))
        spatial = [name for name in examples.columns if examples.kinds[name].is_spatial]
        kinds = {**examples.kinds, **{f"{name}{SECOND}": examples.kinds[name] for name in spatial}}
        return Examples({**first.columns, **{f"{name}{SECOND}": second.columns[name] for name in spatial}}, kinds)
