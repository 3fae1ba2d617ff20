"""Starts training from given weights (core.Experiment.start)."""

import logging
from collections.abc import Callable

import flax.linen as nn

from cnnlab.core import Params, PyTree
from cnnlab.interop.convert import start_from
from cnnlab.ops import trees

log = logging.getLogger(__name__)


def started_from(model: nn.Module, path: str, *, new_head: bool = False) -> Callable[[Params, PyTree], tuple[Params, PyTree]]:
    """Makes the `Experiment.start` that reads the weights of a file or a run when the first state is made.

    It serves every task whose players own parts of one network, `model`.

    Args:
        model: the network.
        path: a file that `interop.files.read` takes, or the folder of a run.
        new_head: whether the last layer keeps its initial values.
    """

    def start(params: Params, model_state: PyTree) -> tuple[Params, PyTree]:
        variables, report = start_from({"params": trees.join(params.values()), **model_state}, model, path, new_head)
        log.info("starting from %s\n  %s", path, report.as_text())
        for caveat in report.caveats:
            log.warning("%s: %s", path, caveat)
        # The network is one tree in a file; each player gets back the leaves that it owns.
        leaves = trees.flatten(variables.pop("params"))
        owned = {player: trees.flatten(tree) for player, tree in params.items()}
        given = {player: trees.unflatten({path: leaves[path] for path in paths}) for player, paths in owned.items()}
        return given, variables

    return start
