"""The two stages of Faster R-CNN as players who are trained one after another, not together.

Ren, He, Girshick and Sun 2015, arXiv 1506.01497, section 3.2, the alternating training in four steps. What is trained in them:

1. the layers that propose, on features of their own;
2. the layers that classify regions, on features of theirs, with the proposals of step 1;
3. the layers that propose, on the features of step 2, which stay as they are from here on;
4. the layers that classify regions, with the proposals of step 3, so that both stages share the features.
"""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import numpy as np

from cnnlab.core import Array, Batch, Params, Phase, PyTree, TrainState
from cnnlab.errors import UsageError
from cnnlab.ops import trees
from cnnlab.ops.proposals import Proposals
from cnnlab.tasks.network_player import running_statistics

FEATURES, PROPOSAL, REGIONS, PROPOSAL_FEATURES = "features", "proposal", "regions", "proposal_features"
"""The groups of parameters: features of both stages at the end, the layers above them that propose and that classify, and the
features from which the first stage proposes, which are a copy of the others from step 3 on."""
PARTS = {"encoder": FEATURES, "backbone": FEATURES, "pyramid": FEATURES, "proposal": PROPOSAL}
"""The group of each layer of a network by the first part of its path; others belong to the regions."""
PLAYERS = {
    "proposer": (PROPOSAL_FEATURES, PROPOSAL),
    "classifier": (FEATURES, REGIONS),
    "proposer_on_shared": (PROPOSAL,),
    "classifier_on_shared": (REGIONS,),
}
"""{player: the groups that it moves}, in the order of the four steps."""
GIVEN = "given"
"""Name of the argument by which a network is told proposals that are not its own."""


@dataclasses.dataclass(frozen=True)
class StagesInTurns:
    """A network in two stages and the players of its four steps; it serves `detect` as a `NetworkPlayer` does.

    The model state has the batch statistics of both copies of the features, {features: …, proposal_features: …}.
    """

    network: nn.Module
    """`network(images, train=…, objects=…, keys=…, given=…) -> (outputs, intermediates)`, as FasterRCNN."""

    def __post_init__(self) -> None:
        """Raises UsageError for a network whose stages cannot be trained in turns."""
        if GIVEN not in inspect.signature(type(self.network).__call__).parameters:
            raise UsageError(
                f"--training=alternating: {type(self.network).__name__} has no two stages that could be trained in turns.\n"
                "Take --model=faster_rcnn, or --training=joint."
            )

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        """Implements core.Task.init."""
        variables = dict(self.network.init(key, batch["image"][:1], train=False))
        return divided(variables.pop("params")), {FEATURES: variables, PROPOSAL_FEATURES: variables}

    def train(
        self, params: Params, model_state: PyTree, images: Array, key: Array, *, player: str, **told: Any
    ) -> tuple[tuple[Any, Any], PyTree]:
        """Returns ((lesson, intermediates), new model state) of images [B, H, W, C] in training.

        Args:
            params: of the groups.
            model_state: of both copies of the features.
            images: of the batch.
            key: of the dropout.
            player: who moves.
            told: further keyword arguments of the network: the objects of the images and keys of draws.
        """
        proposes = PROPOSAL in PLAYERS[player]
        mine = PROPOSAL_FEATURES if proposes else FEATURES
        given: dict[str, Any] = {} if proposes else {GIVEN: self._proposals(params, model_state, images)}
        # From step 3 on the features stay as they are, and with them the statistics by which they are normalised.
        is_still = mine not in PLAYERS[player]
        with running_statistics(lambda path: True) if is_still else contextlib.nullcontext():
            returned, updated = self.network.apply(
                {"params": _whole(params, mine), **model_state[mine]},
                images,
                train=True,
                **told,
                **given,
                rngs={"dropout": key},
                mutable=sorted(model_state[mine]),
            )
        return returned, {**model_state, mine: dict(updated)}

    def evaluate(self, params: Params, model_state: PyTree, images: Array, **told: Any) -> tuple[Any, Any]:
        """Returns (outputs or a lesson, intermediates) of images [B, H, W, C], with nothing updated; `told` as in `train`.

        Regions are the proposals of the first stage; a lesson has its outputs for the anchors, too.
        """
        apply = functools.partial(self.network.apply, train=False)
        first = {"params": _whole(params, PROPOSAL_FEATURES), **model_state[PROPOSAL_FEATURES]}
        second = {"params": _whole(params, FEATURES), **model_state[FEATURES]}
        found, shown = apply(second, images, **told, given=self._proposals(params, model_state, images))
        if not told:
            return found, shown
        lesson, _ = apply(first, images, **told)
        return found._replace(proposals=lesson.proposals), shown

    def _proposals(self, params: Params, model_state: PyTree, images: Array) -> Proposals:
        """Returns the proposals of the first stage for images [B, H, W, C], [B, …] each."""
        variables = {"params": _whole(params, PROPOSAL_FEATURES), **model_state[PROPOSAL_FEATURES]}
        outputs, _ = self.network.apply(variables, images, train=False)  # [B, R, 5 + P]: a box, whether it is a proposal, …
        return Proposals(outputs[..., :4], outputs[..., 4] > 0)


def weights(player: str, terms: Sequence[str]) -> np.ndarray:
    """Returns 1 for each term of the loss from which a player learns, 0 for the others, f32 [T]."""
    proposes = PROPOSAL in PLAYERS[player]
    return np.array([term.startswith("proposal") == proposes for term in terms], np.float32)


def phases(steps: int) -> tuple[Phase, ...]:
    """Returns the four steps of training, which last equally long."""
    ends = [round(steps * part / len(PLAYERS)) for part in range(len(PLAYERS) + 1)]
    lengths = np.diff(ends).tolist()
    begins: tuple[Any, ...] = (None, None, share, None)
    return tuple(Phase(length, (player,), begin) for length, player, begin in zip(lengths, PLAYERS, begins, strict=True))


def share(state: TrainState, batch: Batch) -> TrainState:
    """Implements Phase.begin: the first stage goes over to the features of the second."""
    average = {**state.average, PROPOSAL_FEATURES: state.average[FEATURES]} if state.average else state.average
    statistics = {
        path: state.average_statistics.get(path.replace(PROPOSAL_FEATURES, FEATURES, 1), value)
        for path, value in state.average_statistics.items()
    }
    return dataclasses.replace(
        state,
        params={**state.params, PROPOSAL_FEATURES: state.params[FEATURES]},
        model_state={**state.model_state, PROPOSAL_FEATURES: state.model_state[FEATURES]},
        average=average,
        average_statistics=statistics,
    )


def divided(params: PyTree) -> Params:
    """Returns the parameters of a network by group, with the features twice."""
    leaves, groups = trees.flatten(params), dict[str, dict[str, Any]]()
    for path, leaf in leaves.items():
        groups.setdefault(PARTS.get(path.split("/")[0], REGIONS), {})[path] = leaf
    found = {group: trees.unflatten(of_group) for group, of_group in groups.items()}
    return {**found, PROPOSAL_FEATURES: found[FEATURES]}


def started(
    start: Callable[[Params, PyTree], tuple[Params, PyTree]], player: str
) -> Callable[[Params, PyTree], tuple[Params, PyTree]]:
    """Makes the `Experiment.start` of the stages from that of a network which one player trains: both copies start alike."""

    def begin(params: Params, model_state: PyTree) -> tuple[Params, PyTree]:
        given, state = start({player: _whole(params, FEATURES)}, model_state[FEATURES])
        return divided(given[player]), {FEATURES: state, PROPOSAL_FEATURES: state}

    return begin


def _whole(params: Params, features: str) -> PyTree:
    """Returns the parameters of the network with one of the two copies of the features."""
    return trees.join([params[features], params[PROPOSAL], params[REGIONS]])
