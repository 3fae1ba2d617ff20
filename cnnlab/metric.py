"""What a number of a task means: its name, unit and sense. Imports no jax."""

import dataclasses

from cnnlab.errors import UsageError

SHARE = "share"
"""Unit of a share of one, such as an accuracy: shown in percent, its differences in points of a hundred."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """The declaration of a number that a task's `summary` gives, whatever the split."""

    name: str
    """As in the dict that `summary` returns, without a split: accuracy."""
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
    def label(self) -> str:
        """`bits per dim` of bits_per_dim, for heads and axes."""
        return self.name.replace("_", " ")

    @property
    def is_share(self) -> bool:
        """Whether it is shown in percent."""
        return self.unit == SHARE

    @property
    def shown_unit(self) -> str:
        """What stands beside the name: `%` or `nats`; nothing where the name itself says the unit, as bits_per_dim does."""
        return "%" if self.is_share else "" if self.unit.replace("/", " per ") in self.label else self.unit

    @property
    def difference_unit(self) -> str:
        """What stands behind a difference of two values: points of a hundred are no percent."""
        return "points" if self.is_share else self.unit

    @property
    def factor(self) -> float:
        """From a value to the number that is shown."""
        return 100.0 if self.is_share else 1.0

    def require_sense(self, purpose: str) -> bool:
        """Returns `higher_is_better`; raises UsageError where the metric has no sense.

        Args:
            purpose: what the sense is needed for, such as `--prune=asha`; the error begins with it.
        """
        if self.higher_is_better is None:
            raise UsageError(
                f"{purpose} needs a metric of which more, or less, is better, and {self.name} is declared without a sense.\n"
                "Expected a metric such as accuracy or loss. Take another one, or compare by difference alone."
            )
        return self.higher_is_better


def name_of(metric: str) -> str:
    """`accuracy` of `test/accuracy`: the name under which the task declares it."""
    return metric.rpartition("/")[2]
