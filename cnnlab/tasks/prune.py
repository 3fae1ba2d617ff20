"""Training that prunes and shares: dense, then in rounds that begin by taking weights or channels away, then with few values.

The sources are those of ops/pruning.py, ops/units.py and ops/sharing.py.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import jax
import numpy as np
import optax

from cnnlab.compressed import F32_BYTES, codebook
from cnnlab.core import Batch, Phase, PyTree, Task, TrainState
from cnnlab.errors import UsageError
from cnnlab.metric import SHARE, Metric
from cnnlab.ops import pruning, sharing, trees, units
from cnnlab.ops.keys import stream
from cnnlab.ops.pruning import Pruned, Schedule, Scope
from cnnlab.ops.units import Criterion, Found
from cnnlab.tasks.beginnings import Begin, one_after_other
from cnnlab.values import Choice, Count, Fraction, Positive, Probability, Range

Rewind = Literal["none", "start", "redraw", "reorder"]

SIZES = (
    Metric("density", SHARE, higher_is_better=False),
    Metric("file_bytes", "bytes", higher_is_better=False),
    Metric("times_smaller", higher_is_better=True),
)
"""What `count_file` gives."""


def count_file(leaves: Mapping[str, np.ndarray], size: int) -> dict[str, float]:
    """Returns the share of the weights of kernels that are not 0, the bytes of the file, and how many times f32 is larger.

    Args:
        leaves: arrays of the network by name.
        size: bytes of the file that holds them, every one counted.
    """
    kernels = [leaf for leaf in leaves.values() if leaf.ndim > 1]
    numbers = sum(leaf.size for leaf in leaves.values())
    kept = sum(np.count_nonzero(leaf) for leaf in kernels) / max(1, sum(leaf.size for leaf in kernels))
    return {"density": float(kept), "file_bytes": float(size), "times_smaller": F32_BYTES * numbers / size}


@dataclasses.dataclass(frozen=True)
class Sharing:
    """With how many values the weights of a kernel are shared, and for how long they are trained so."""

    bits: int
    layers: Mapping[str, int]
    """{pattern of a kernel's path: bits of its own}."""
    start: Callable[..., np.ndarray]
    """First values, one of codebook.STARTS."""
    part: float
    """Share of the steps, the last ones, in which values are shared."""

    def bits_of(self, params: PyTree) -> dict[str, int]:
        """Returns {path of a kernel: bits of a code} of a player's parameters."""
        return sharing.bits_of(params, self.bits, self.layers)

    def beginning(self, players: tuple[str, ...]) -> Begin:
        """Returns the Phase.begin with which values are shared."""

        def begin(state: TrainState, batch: Batch) -> TrainState:
            params, average, opt_state = dict(state.params), dict(state.average), dict(state.opt_state)
            for player in players:
                own: Pruned = opt_state[player]
                leaves, masks = trees.flatten(params[player]), trees.flatten(own.mask)
                codes, first = {}, {}
                for path, bits in self.bits_of(params[player]).items():
                    kept = np.asarray(leaves[path])[masks[path] > 0]
                    centres, found = codebook.cluster(kept, 2**bits, start=self.start)
                    leaves[path], codes[path], first[path] = sharing.shared(leaves[path], masks[path], centres, found, 2**bits)
                params[player] = trees.unflatten(leaves)
                if average:  # an average over other values would share none
                    average[player] = params[player]
                values = own.inner._replace(is_on=np.asarray(True), codes=codes, first=first)
                opt_state[player] = own._replace(inner=values)
            return dataclasses.replace(state, params=params, average=average, opt_state=opt_state)

        return begin


@dataclasses.dataclass(frozen=True)
class Pruning:
    """What is taken away when, and with which weights each round begins."""

    shares: tuple[float, ...]
    """Share of the weights of a kernel that stay, after each round; (): nothing is pruned."""
    layers: tuple[tuple[str, float], ...] = ()
    """(pattern of a kernel's path, its share after the last round); other rounds are as far from 1 as those of `shares`."""
    scope: Scope = "layer"
    dense: float = 0.0
    """Share of the steps before the first round."""
    settle: float = 0.0
    """Share of the steps, the last ones, in which no round begins but that of shared values."""
    rewind: Rewind = "none"
    restarts: bool = False
    """Whether the optimiser, with its schedule, begins anew with each round."""
    sharing: Sharing | None = None
    """How weights share values in the last part of training; None: they do not."""
    criterion: Criterion | None = None
    """By what whole channels are taken away; None: single weights are, by their magnitude."""
    found: Found | None = None
    """The channels of the network; None: they are not asked for."""

    def of(self, follow: Callable[[], Found]) -> "Pruning":
        """Returns the plan for a network whose channels `follow` finds, where it takes channels away.

        Raises UsageError where there are none, or some that should go cannot be followed.
        """
        if self.criterion is None or not self.shares:
            return self
        found = follow()
        paths = [path for each in found.units for path in each.kernels]
        trees.require_match([pattern for pattern, _ in self.layers], [*paths, *found.obstacles], knob="density_by_layer")
        for path, why in found.obstacles.items():
            if self._last_share((path,)) < 1:
                layer = path.removesuffix("/kernel")
                raise UsageError(
                    f"--pruning=channels: those of {layer} cannot go, since {why}.\n"
                    f"Leave them whole, --density_by_layer={layer}=1, or take single weights, --pruning=magnitude."
                )
        if not found.units:
            raise UsageError("--pruning=channels: the network has none that could go.\nTake --pruning=magnitude.")
        return dataclasses.replace(self, found=found)

    def counted(self, task: Task) -> Task:
        """Returns the task with the share of the weights that stay and the size of the file among its results."""
        return dataclasses.replace(task, metrics=(*task.metrics, *SIZES), count_file=count_file) if self.shares else task

    def lengths(self, steps: int) -> list[int]:
        """Returns the steps of the dense part, of each round and of the part with shared values.

        Rounds are equally long, but for the last one, which settles.
        """
        if not self.shares:
            return [steps]
        last = 0 if self.sharing is None else round(self.sharing.part * steps)
        first, end = (min(round(part * steps), steps - last) for part in (self.dense, 1.0 - self.settle))
        ends = np.linspace(min(first, end), min(end, steps - last), len(self.shares) + 1).round().astype(int)
        ends[-1] = steps - last
        return [int(ends[0]), *np.diff(ends).tolist(), *([] if self.sharing is None else [last])]

    def longest(self, steps: int) -> int:
        """Returns the steps for which the optimiser's schedule is made: all, or those of the longest part if it restarts."""
        return max(self.lengths(steps)) if self.restarts else steps

    def rule(self, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
        """Returns the optimiser of a player, regularised and all, as one that leaves pruned weights alone."""
        if not self.shares:
            return optimizer
        rule = optimizer if self.sharing is None else sharing.moves_together(optimizer, self.sharing.bits_of)
        return pruning.keeps_zeros(rule, remembers=self.rewind != "none")

    def phases(self, steps: int, rules: dict[str, optax.GradientTransformation], begin: Begin | None) -> tuple[Phase, ...]:
        """Returns the dense part, which `begin` begins, and the rounds; () where nothing happens at the start of any.

        Args:
            steps: of all of training.
            rules: {player: what `rule` made}.
            begin: the Phase.begin of training; None: it has none.
        """
        dense, *rounds = self.lengths(steps)
        starts = [self._beginning(number, rules) for number in range(len(self.shares))]
        starts += [] if self.sharing is None else [self.sharing.beginning(tuple(rules))]
        parts: list[Phase] = []
        waiting: Begin | None = None
        for length, one in zip([dense, *rounds], [begin, *starts], strict=True):
            waiting = one_after_other(waiting, one)
            if length:  # a part without steps does not begin: what it would do, the next one does
                parts.append(Phase(length, tuple(rules), waiting))
                waiting = None
        if parts:  # so does the last one for those behind it, so that the shortest training ends as pruned as a long one
            parts[-1] = dataclasses.replace(parts[-1], begin=one_after_other(parts[-1].begin, waiting))
        return tuple(parts) if begin or starts else ()

    def _beginning(self, number: int, rules: dict[str, optax.GradientTransformation]) -> Begin:
        """Returns the Phase.begin of a round, counted from 0."""

        def begin(state: TrainState, batch: Batch) -> TrainState:
            params, average, opt_state = dict(state.params), dict(state.average), dict(state.opt_state)
            for player, rule in rules.items():
                own: Pruned = opt_state[player]
                mask = self.mask(params[player], number)
                given = params[player] if self.rewind == "none" else self._rewound(own.start, mask, state.key, number)
                params[player] = pruning.pruned(given, mask)
                if average:
                    average[player] = params[player] if self.rewind != "none" else pruning.pruned(average[player], mask)
                inner = jax.device_get(rule.init(params[player]).inner) if self.restarts else own.inner
                opt_state[player] = own._replace(mask=mask, inner=inner)
            return dataclasses.replace(state, params=params, average=average, opt_state=opt_state)

        return begin

    def mask(self, params: PyTree, number: int) -> PyTree:
        """Returns the mask u8 of a player's parameters with which round `number`, counted from 0, begins."""
        last, now = self.shares[-1], self.shares[number]
        # A layer with a share of its own goes the same part of its way, by ratio, as the others do.
        part = float(np.log(now) / np.log(last)) if last < 1 else 1.0
        if self.found is None or self.criterion is None:
            layers = [(pattern, share**part) for pattern, share in self.layers]
            return pruning.masks(params, pruning.shares_of(params, now, layers), self.scope)
        shares = [self._last_share(each.kernels) ** part for each in self.found.units]
        return units.masks(params, self.found.units, shares, scope=self.scope, criterion=self.criterion)

    def _last_share(self, paths: Sequence[str]) -> float:
        """Returns the share of the outputs of some kernels that stays in the end: that of the first pattern for any of them."""
        own = (share for pattern, share in self.layers if any(trees.matches(pattern, path) for path in paths))
        return next(own, self.shares[-1])

    def _rewound(self, start: PyTree, mask: PyTree, key: Any, number: int) -> PyTree:
        """Returns the weights with which training began, or for the last round of a control those in another order."""
        if self.rewind == "start" or number < len(self.shares) - 1:
            return start
        seed = np.asarray(jax.random.key_data(stream(jax.random.wrap_key_data(key), f"redraw{number}")))
        random = np.random.default_rng(seed.tolist())
        leaves, masks = trees.flatten(start), trees.flatten(mask)
        drawn = {path: np.array(leaf) for path, leaf in leaves.items()}
        for path in (path for path, leaf in leaves.items() if leaf.ndim > 1):
            moved = np.ones(drawn[path].shape, bool) if self.rewind == "redraw" else masks[path] > 0
            drawn[path][moved] = random.permutation(drawn[path][moved])
        return trees.unflatten(drawn)


def unpruned() -> Pruning:
    """Prunes nothing."""
    return Pruning(())


def unshared() -> None:
    """Leaves every weight its own value."""
    return


def kmeans(
    *,
    bits: Annotated[int, Range(1, sharing.MOST_BITS)] = 5,
    bits_by_layer: tuple[str, ...] = (),
    start: Choice[codebook.STARTS] = codebook.linear,
    part: Probability = 0.2,
) -> Sharing:
    """Gives the weights of each kernel few values, by k-means, and trains these in the last part of training.

    Args:
        bits: bits of a weight's code: a kernel has 2^bits values at most.
        bits_by_layer: REGEX=BITS for kernels with bits of their own, such as conv.*=8; the first match counts.
        start: first values: linear, at equal distances; density, parts of equal size; random, weights that are drawn.
        part: share of the steps, the last ones, in which the values are trained; 0: weights keep their own.
    """
    return Sharing(bits, dict(sharing.layer_bits(bits_by_layer)), start, part)


SHARINGS: dict[str, Callable[..., Sharing | None]] = {"none": unshared, "kmeans": kmeans}
"""How weights share values, by name, for `Choice[SHARINGS]`."""


def magnitude(
    *,
    density: Positive = 0.1,
    rounds: Count = 4,
    schedule: Schedule = "geometric",
    scope: Scope = "layer",
    density_by_layer: tuple[str, ...] = (),
    dense: Fraction = 0.4,
    settle: Fraction = 0.0,
    rewind: Rewind = "none",
    restarts: bool = False,
    sharing: Choice[SHARINGS] = unshared,
) -> Pruning:
    """Takes the weights of the smallest magnitude away, in rounds after each of which the others are trained further.

    Args:
        density: share of the weights of every kernel that stay in the end, at most 1; biases and norms are not pruned.
        rounds: number of rounds; 1: one-shot.
        schedule: how the density falls: geometric: by the same factor in each round; cubic: quickly at first (Zhu & Gupta).
        scope: layer: each kernel keeps that share; network: all together do, wherever the largest weights are.
        density_by_layer: REGEX=SHARE for kernels with a density of their own, such as output=0.26; the first match counts.
        dense: share of the steps before the first round; 0: it prunes what it starts from, as with --init_from.
        settle: share of the steps, the last ones, by which the last round is longer, shared values included.
        rewind: weights with which a round begins: none: those that training has reached; start: those with which it began, the
            lottery ticket; redraw: as its control those, too, but in the last round those of each kernel in another order;
            reorder: in the last round those that stay in another order, so that they are as large.
        restarts: whether the optimiser and its schedule begin anew with each round; rewinding always does.
        sharing: how weights share values after the last round.
    """
    if density > 1:
        raise UsageError(f"--pruning.density={density}: it is the share of weights that stay, at most 1.")
    return Pruning(
        tuple(pruning.densities(density, rounds, schedule)),
        tuple(pruning.layer_shares(density_by_layer)),
        scope,
        dense,
        settle,
        rewind,
        restarts or rewind != "none",
        sharing(),
    )


def require_whole_training(plan: Pruning, early_stopping: int | None) -> Pruning:
    """Returns the plan; raises UsageError where training might end, with its best weights, before the last round."""
    if plan.shares and early_stopping is not None:
        raise UsageError("--pruning and --early_stopping: the best weights may be those before the last round. Leave one out.")
    return plan


def channels(
    *,
    density: Positive = 0.5,
    rounds: Count = 4,
    schedule: Schedule = "geometric",
    scope: Scope = "layer",
    criterion: Criterion = "l1",
    density_by_layer: tuple[str, ...] = (),
    dense: Fraction = 0.4,
    settle: Fraction = 0.0,
    rewind: Rewind = "none",
    restarts: bool = False,
    sharing: Choice[SHARINGS] = unshared,
) -> Pruning:
    """Takes whole channels and units away, those that matter least, so that `export --smaller` writes a smaller network.

    Args:
        density: share of the channels of every layer that stay in the end, at most 1; the outputs of the network all do.
        rounds: number of rounds; 1: one-shot.
        schedule: how the density falls: geometric: by the same factor in each round; cubic: quickly at first (Zhu & Gupta).
        scope: layer: each layer keeps that share; network: all together do, at least one channel of each.
        criterion: what a channel matters by: l1, l2: the mean magnitude, or root mean square, of its weights (Li et al. 2017);
            scale: the magnitude of its scale in the norm behind it (Liu et al. 2017).
        density_by_layer: REGEX=SHARE for layers with a density of their own, such as conv1=1; the first match counts.
        dense: share of the steps before the first round; 0: it prunes what it starts from, as with --init_from.
        settle: share of the steps, the last ones, by which the last round is longer, shared values included.
        rewind: weights with which a round begins: none: those that training has reached; start: those with which it began;
            redraw, reorder: those, too, but in the last round those of each kernel, or those that stay, in another order.
        restarts: whether the optimiser and its schedule begin anew with each round; rewinding always does.
        sharing: how weights share values after the last round.
    """
    plan = magnitude(
        density=density,
        rounds=rounds,
        schedule=schedule,
        scope=scope,
        density_by_layer=density_by_layer,
        dense=dense,
        settle=settle,
        rewind=rewind,
        restarts=restarts,
        sharing=sharing,
    )
    return dataclasses.replace(plan, criterion=criterion)


PRUNINGS: dict[str, Callable[..., Pruning]] = {"none": unpruned, "magnitude": magnitude, "channels": channels}
"""How training prunes, by name, for `Choice[PRUNINGS]`."""
