"""Declaration of a metric of a task: its name, unit and sense. Imports no jax."""

import dataclasses
import math

from cnnlab.errors import UsageError

SHARE = "share"
"""Unit of a share of one, such as an accuracy: shown in percent, its differences in points of a hundred."""

Bounds = tuple[float, float]
NO_BOUNDS: Bounds = (-math.inf, math.inf)


def within(bounds: Bounds, low: float, high: float) -> tuple[float, float]:
    """Returns the ends of the part of an interval that lies within bounds."""
    return max(low, bounds[0]), min(high, bounds[1])


@dataclasses.dataclass(frozen=True)
class Metric:
    """The declaration of a number that a task's `summary` gives, for any split."""

    name: str
    """Key of the dict that `summary` returns, without a split: accuracy."""
    unit: str = ""
    """SHARE, or the name of a unit that is written behind the numbers, such as nats or bits/dim; empty: none."""
    higher_is_better: bool | None = None
    """None: neither more nor less is better, as where the best value lies in between. Such a number can be shown and compared,
    but nothing is ranked by it."""
    log_scale: bool = False
    """Whether curves are drawn on a logarithmic axis where the values span more than a decade."""

    is_proportion: bool = False
    """Whether it is the share of the examples for which something holds, such as an accuracy: its sampling error is then that
    of a proportion."""

    @property
    def bounds(self) -> Bounds:
        """Returns the least and the greatest value that it can have: 0 and 1 of a proportion."""
        return (0.0, 1.0) if self.is_proportion else NO_BOUNDS

    @property
    def label(self) -> str:
        """Returns the name with spaces, such as `bits per dim`, for headings and axes."""
        return self.name.replace("_", " ")

    @property
    def is_share(self) -> bool:
        """Returns whether it is shown in percent."""
        return self.unit == SHARE

    @property
    def shown_unit(self) -> str:
        """Returns the unit shown with the name, such as `%` or `nats`; empty where the name has it, as bits_per_dim does."""
        return "%" if self.is_share else "" if self.unit.replace("/", " per ") in self.label else self.unit

    @property
    def difference_unit(self) -> str:
        """Returns the unit of a difference of two values: shares in percent differ by points."""
        return "points" if self.is_share else self.unit

    @property
    def factor(self) -> float:
        """Returns the factor from a value to the number that is shown."""
        return 100.0 if self.is_share else 1.0

    def require_sense(self, purpose: str) -> bool:
        """Returns `higher_is_better`; raises UsageError where the metric has no sense.

        Args:
            purpose: use that needs the sense, such as `--prune=asha`; the error begins with it.
        """
        if self.higher_is_better is None:
            raise UsageError(
                f"{purpose} needs a metric of which more, or less, is better, and {self.name} is declared without a sense.\n"
                "Expected a metric such as accuracy or loss. Take another one, or compare by difference alone."
            )
        return self.higher_is_better


def name_of(metric: str) -> str:
    """Returns the name under which the task declares a metric: `accuracy` for `test/accuracy`."""
    return metric.rpartition("/")[2]
