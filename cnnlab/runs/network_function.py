"""What a task predicts as a function of the variables of its one network, by the names that files have for them."""

import functools
from collections.abc import Mapping
from typing import Any

import jax

from cnnlab.core import Experiment, PyTree
from cnnlab.ops import trees, units
from cnnlab.ops.trees import named_leaves
from cnnlab.ops.units import Found
from cnnlab.runs.network_leaves import weights_of


def variables_of(params: PyTree, model_state: PyTree) -> dict[str, Any]:
    """Returns {"params/conv1/kernel": leaf} of the parameters of all players and the model state."""
    return weights_of(named_leaves({"params": params, "model_state": model_state}))


def owners_of(params: PyTree) -> dict[str, str]:
    """Returns {path of a parameter below its player: the player}."""
    return {path: player for player, tree in params.items() for path in trees.flatten(tree)}


def divided(variables: Mapping[str, Any], owners: Mapping[str, str]) -> tuple[PyTree, PyTree]:
    """Returns (params by player, model state), of which `variables_of` gave the variables of one network."""
    own = {path.removeprefix("params/"): leaf for path, leaf in variables.items() if path.startswith("params/")}
    params: PyTree = {}
    for player in dict.fromkeys(owners.values()):
        params[player] = trees.unflatten({path: leaf for path, leaf in own.items() if owners[path] == player})
    return params, trees.unflatten({path: leaf for path, leaf in variables.items() if not path.startswith("params/")})


def predicted(experiment: Experiment, owners: Mapping[str, str], variables: Mapping[str, Any], images: jax.Array) -> Any:
    """Returns what a task predicts of images [B, H, W, C] by the variables of its network."""
    return experiment.task.predict(*divided(variables, owners), images)


def units_of(experiment: Experiment, params: PyTree, model_state: PyTree) -> Found:
    """Returns the channels of a task's network that can go."""
    owners, variables = owners_of(params), variables_of(params, model_state)
    called = functools.partial(predicted, experiment, owners)
    tree = trees.unflatten(variables)
    return units.units_of(lambda tree, images: called(trees.flatten(tree), images), tree, experiment.data.image_shape)
