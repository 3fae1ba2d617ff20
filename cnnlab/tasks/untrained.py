"""The loss of a task without players, which counts, decomposes or remembers in place of training."""

from typing import Any

from cnnlab.core import Array, Batch, Params, PyTree
from cnnlab.errors import UsageError


def no_loss(why: str) -> Any:
    """Returns what takes the place of Task.loss: it raises UsageError, since there is no player.

    Args:
        why: a clause that says what is done in place of training.
    """

    def refuse(params: Params, model_state: PyTree, batch: Batch, key: Array, player: str) -> Any:
        raise UsageError(f"{why}: there is no loss to train. Take 0 steps.")

    return refuse
