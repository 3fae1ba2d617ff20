"""Starts training from given weights (core.Experiment.start)."""

import logging
from collections.abc import Callable, Sequence

import flax.linen as nn

from cnnlab.core import Params, PyTree
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.interop import files
from cnnlab.interop.convert import names_all, start_from, start_part
from cnnlab.models.dense_maps import encoder, own_encoder
from cnnlab.ops import trees

log = logging.getLogger(__name__)

BACKBONE = "backbone"
"""Name of the part of a network that is taken from the networks of classification."""


def require_start(init_from: str | None, *, new_head: bool = False, control: str = "none") -> None:
    """Raises UsageError where the knobs that say with which weights training starts exclude each other.

    Args:
        init_from: file or folder of weights; None: the network is initialised at random.
        new_head: whether the last layer keeps its initial values.
        control: negative control; `random_parameters` is the network as it is initialised.
    """
    if new_head and init_from is None:
        raise UsageError("--new_head initialises the last layer anew; without --init_from every layer is. Leave it out.")
    if control == "random_parameters" and init_from is not None:
        raise UsageError(
            "--control=random_parameters evaluates the network as it is initialised, and --init_from gives it other weights.\n"
            "Leave one of them out; --init_from=none removes the weights that an experiment sets."
        )


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


def part_started_from(
    path: str, *, into: str, model: nn.Module | None = None, new_head: bool = False
) -> Callable[[Params, PyTree], tuple[Params, PyTree]]:
    """Makes the `Experiment.start` that reads the weights of one part of a task's parameters; all others start at random.

    A part is a player or a module of one: `autoencoder/encoder`, `discriminator`, `detector/backbone`.

    Args:
        path: a file that `interop.files.read` takes, or the folder of a run; it may hold more than the part.
        into: path of the part among the parameters, PLAYER/MODULE/….
        model: the part as a module, whose family's names the file may use (interop/families/); None: the file has our names.
        new_head: whether the part's last layer, `output`, keeps its initial values.

    The function raises UsageError where there is no such part, and CheckpointError where the file does not fill it.
    """

    def start(params: Params, model_state: PyTree) -> tuple[Params, PyTree]:
        places = _places(params, model_state, into)
        leaves = {place: leaf for tree in (params, model_state) for place, leaf in trees.named_leaves(tree).items()}
        variables = trees.unflatten({name: leaves[place] for place, name in places.items()})
        filled, report = start_part(variables, path, name=into, model=model, new_head=new_head)
        log.info("starting %s from %s\n  %s", into, path, report.as_text())
        for caveat in report.caveats:
            log.warning("%s: %s", path, caveat)
        given = {place: filled[name] for place, name in places.items() if name in filled}
        return trees.replaced(params, given), trees.replaced(model_state, given)

    return start


def start_beside(
    start: Callable[[Params, PyTree], tuple[Params, PyTree]], *, players: Sequence[str] = (), collections: Sequence[str] = ()
) -> Callable[[Params, PyTree], tuple[Params, PyTree]]:
    """Returns the `Experiment.start` of a task as that of one with more beside it, which starts as it is.

    Args:
        start: that of the task alone.
        players: names of the parameters that it does not know.
        collections: names in the model state that it does not know.
    """

    def begin(params: Params, model_state: PyTree) -> tuple[Params, PyTree]:
        own = {name: tree for name, tree in params.items() if name not in players}
        given, state = start(own, {name: tree for name, tree in model_state.items() if name not in collections})
        more = {name: params[name] for name in players}, {name: model_state[name] for name in collections}
        return {**given, **more[0]}, {**state, **more[1]}

    return begin


def network_started_from(network: nn.Module, path: str, *, new_head: bool) -> Callable[[Params, PyTree], tuple[Params, PyTree]]:
    """Makes the `Experiment.start` that reads the weights of a network or, from a file of that alone, of its backbone.

    A file that has every layer of the network by our names, as a run of it does, or by those of a library, is that of the whole
    network. Where the network has a backbone, any other file is that of the backbone.

    Args:
        network: the network.
        path: a file that `interop.files.read` takes, or the folder of a run.
        new_head: whether the last layer keeps its initial values.
    """
    whole = started_from(network, path, new_head=new_head)
    backbone = getattr(network, BACKBONE, own_encoder)
    if backbone is own_encoder:
        return whole
    trunk = encoder(backbone)

    def start(params: Params, model_state: PyTree) -> tuple[Params, PyTree]:
        leaves = trees.flatten(trees.join(params.values()))
        if names_all(files.read(path), network, {f"params/{name}": leaf.shape for name, leaf in leaves.items()}, new_head):
            return whole(params, model_state)
        owner = next(player for player, tree in params.items() if BACKBONE in tree)
        return part_started_from(path, into=f"{owner}/{BACKBONE}", model=trunk)(params, model_state)

    return start


def _places(params: Params, model_state: PyTree, into: str) -> dict[str, str]:
    """Returns {path in the parameters or the model state: "collection/layer/leaf" in the part} of a part's leaves."""
    player, _, below = into.partition("/")
    # Batch statistics lie beside the parameters, in a collection of the whole state or of the player.
    collections = ["/".join(filter(None, parts)) for parts in (("batch_stats", below), (player, "batch_stats", below))]
    found = {
        place: f"params/{place.removeprefix(f'{into}/')}"
        for place in trees.named_leaves(params)
        if place.startswith(f"{into}/")
    }
    for above in collections:
        inside = [place for place in trees.named_leaves(model_state) if place.startswith(f"{above}/")]
        found |= {place: f"batch_stats/{place.removeprefix(f'{above}/')}" for place in inside}
    if any(name.startswith("params/") for name in found.values()):
        return found
    paths = [place.split("/") for place in trees.named_leaves(params)]
    parts = list(dict.fromkeys("/".join(path[:depth]) for path in paths for depth in range(1, len(path))))
    shown = ", ".join(parts[:12]) + (", …" if len(parts) > 12 else "")
    raise UsageError(f"the parameters have no part {into!r}.{did_you_mean(into, parts)}\nParts: {shown}.")
