"""Pruning in the course of training: how much stays, exact zeros through everything, tickets, resuming, what is refused."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import optax
import pytest
import toys
from contract import TRAINED

from cnnlab import knobs
from cnnlab.compressed import codebook
from cnnlab.engine.batched import select_member
from cnnlab.engine.checkpoint import tree_digest
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.engine.train import Intervals
from cnnlab.errors import UsageError
from cnnlab.ops import pruning, sharing, trees
from cnnlab.ops.sharing import bits_of, moves_together
from cnnlab.recipes.classification import classification
from cnnlab.runs import final_figures
from cnnlab.runs.folder import RunSpec
from cnnlab.tasks.prune import Pruning, Sharing

KNOBS = {
    **TRAINED,
    "model": "mlp",
    "model.widths": "12,8",
    "model.norm": "batch",
    "optimizer": "adamw",
    "average_decay": 0.5,
    "pruning": "magnitude",
    "density": 0.2,
    "density_by_layer": "output=0.5",
    "rounds": 2,
    "dense": 0.5,
    "duration": "8 steps",
}
EVERY = Intervals(log=2, evaluate=100, save=1)
FIRST, SECOND = 4, 6
"""Steps at which the rounds begin."""


def made(**more):
    return knobs.resolve(classification, {**KNOBS, **more}).call()


CHANNELS = {"pruning": "channels", "density_by_layer": "dense2=0.5"}
KINDS = pytest.mark.parametrize("kind", ["weights", "channels"])


@functools.cache
def trained(devices=1, rewind="none", kind="weights"):
    """(the program, the state at the end, {step: curve}, {step: (state, pending statistics)}) of a run."""
    experiment = made(rewind=rewind, **(CHANNELS if kind == "channels" else {}))
    program = build_program(experiment, STRATEGIES["jit"](pick_devices(devices)), precision="f32")
    state, _, curve, saved = toys.run(experiment, program=program, intervals=EVERY)
    return program, state, curve, saved


def kernels(tree):
    return {path: np.asarray(leaf) for path, leaf in trees.flatten(tree).items() if path.endswith("kernel")}


def kept(leaf):
    return int(np.count_nonzero(leaf))


def test_densities_fall_by_one_factor_or_as_zhu_and_gupta_have_it():
    assert pruning.densities(0.1, 1, "geometric") == [0.1]
    assert pruning.densities(0.0625, 4, "geometric") == pytest.approx([0.5, 0.25, 0.125, 0.0625])
    final = 0.9  # sparsity; eq. 1 with s_i = 0, in units of n Δt
    assert pruning.densities(0.1, 5, "cubic") == pytest.approx([1 - (final - final * (1 - t / 5) ** 3) for t in range(1, 6)])


def test_the_largest_weights_stay_in_exact_numbers_also_among_equal_ones():
    params = {
        "a": {"kernel": np.float32([[3, -4], [1, 2]]), "bias": np.zeros(2, np.float32)},
        "b": {"kernel": np.ones((1, 5), np.float32)},
    }
    shares = pruning.shares_of(params, 0.5, [("b", 0.4)])
    assert shares == {"a/kernel": 0.5, "b/kernel": 0.4}
    mask = pruning.masks(params, shares, "layer")
    assert mask["a"]["kernel"].tolist() == [[1, 1], [0, 0]] and mask["a"]["bias"].tolist() == [1, 1]
    assert mask["b"]["kernel"].tolist() == [[1, 1, 0, 0, 0]]
    together = pruning.masks(params, {"a/kernel": 0.5, "b/kernel": 0.4}, "network")
    assert kept(together["a"]["kernel"]) == 4 and kept(together["b"]["kernel"]) == 0  # 4 of 9, by magnitude


def test_each_round_leaves_its_share_and_zeros_stay_exact_in_weights_and_averages():
    _, _, _, saved = trained()
    ratio = np.log(0.2**0.5) / np.log(0.2)
    for step in range(1, 9):
        state = saved[step][0]
        share = 1.0 if step <= FIRST else 0.2**0.5 if step <= SECOND else 0.2
        last = 1.0 if step <= FIRST else 0.5**ratio if step <= SECOND else 0.5
        mask = state.opt_state["classifier"].mask
        for path, leaf in kernels(state.params["classifier"]).items():
            expected = int(np.ceil((last if path.startswith("output") else share) * leaf.size))
            assert kept(leaf) == kept(kernels(state.average["classifier"])[path]) == expected, (step, path)
            assert np.array_equal(leaf != 0, kernels(mask)[path] > 0)
    before, after = (kernels(saved[step][0].params["classifier"]) for step in (FIRST, FIRST + 1))
    for path, leaf in before.items():
        gone = after[path] == 0
        assert np.abs(leaf[gone]).max(initial=0) <= np.abs(leaf[~gone]).min(), "the smallest ones went"
        assert np.any(after[path][~gone] != leaf[~gone]), "the others go on learning"


def test_without_pruning_there_are_neither_phases_nor_masks():
    whole = knobs.resolve(classification, {**TRAINED, "model": "mlp", "model.widths": "8", "duration": "2 steps"}).call()
    assert whole.phases == ()
    state = jax.eval_shape(lambda: whole.optimizers["classifier"].init({"kernel": np.ones((2, 2), np.float32)}))
    assert all(leaf.dtype != np.uint8 for leaf in jax.tree.leaves(state))


SHARING = {"sharing": "kmeans", "bits": 2, "bits_by_layer": "output=3", "part": 0.25}


@functools.cache
def shared(devices=1):
    """As `trained`, with 4 steps before the round, 2 after it and 2 in which weights share values."""
    experiment = made(**SHARING, rounds=1)
    program = build_program(experiment, STRATEGIES["jit"](pick_devices(devices)), precision="f32")
    state, _, curve, saved = toys.run(experiment, program=program, intervals=EVERY)
    return program, state, curve, saved


def test_shared_weights_stay_equal_to_the_bit_as_their_values_are_trained():
    program, _, _, saved = shared()
    before, end = saved[6][0], saved[8][0]
    begun = program.experiment.phases[2].begin(before, {})
    for tree in ("params", "average"):
        for path, leaf in kernels(getattr(end, tree)["classifier"]).items():
            codes = end.opt_state["classifier"].inner.codes[path]
            values = np.unique(leaf[leaf != 0])
            assert len(values) <= (8 if path.startswith("output") else 4) and len(np.unique(codes)) == len(values) + 1
            assert all(len(np.unique(leaf[codes == code])) == 1 for code in np.unique(codes)), "one value of each code"
            assert not np.any(leaf[codes == codes.max()]) and np.array_equal(
                leaf == 0, kernels(before.params["classifier"])[path] == 0
            )
    first, last = (kernels(state.params["classifier"]) for state in (begun, end))
    assert all(not np.array_equal(leaf, last[path]) for path, leaf in first.items())


def test_the_gradient_of_a_value_is_the_sum_of_those_of_its_weights():
    kernel, gradient = (np.random.default_rng(seed).normal(size=(6, 5)).astype(np.float32) for seed in (0, 1))
    params = {"a": {"kernel": kernel, "bias": np.zeros(5, np.float32)}}
    rule = moves_together(optax.sgd(0.5), lambda params: bits_of(params, 2, {}))
    centres, codes = codebook.cluster(kernel.reshape(-1), 4)
    values, of_each, first = sharing.shared(kernel, np.ones((6, 5)), centres, codes, 4)
    assert np.array_equal(values, centres[codes].reshape(6, 5))
    state = rule.init(params)._replace(is_on=np.asarray(True), codes={"a/kernel": of_each}, first={"a/kernel": first})
    updates, _ = jax.jit(rule.update)({"a": {"kernel": gradient, "bias": np.ones(5, np.float32)}}, state, params)
    expected = np.bincount(codes, gradient.reshape(-1).astype(float), 4)
    np.testing.assert_allclose(updates["a"]["kernel"].reshape(-1), -0.5 * expected[codes], rtol=1e-5)
    np.testing.assert_allclose(updates["a"]["bias"], -0.5)


def test_bits_of_a_layer_are_checked():
    assert sharing.layer_bits(("conv.*=8",)) == [("conv.*", 8)]
    for text in ("conv", "conv=9", "conv=0", "=3", "conv=2.5"):
        with pytest.raises(UsageError, match="is not REGEX=BITS"):
            sharing.layer_bits((text,))


@pytest.mark.slow
def test_resumed_within_shared_values_is_the_same_to_the_bit_and_eight_devices_share_alike():
    program, whole, curve, saved = shared()
    for at in (6, 7):
        resumed, *_ = toys.run(program.experiment, program=program, intervals=EVERY, resume=(*saved[at], at))
        assert tree_digest(resumed) == tree_digest(whole), at
    _, other, again, _ = shared(8)
    assert toys.gap(whole, other) < 1e-4
    for step, numbers in curve.items():
        assert dict(sorted(again[step].items())) == pytest.approx(dict(sorted(numbers.items())), rel=2e-5, abs=1e-6), step


def test_rounds_divide_the_steps_and_the_last_one_settles():
    assert Pruning(()).lengths(100) == [100]
    assert Pruning((0.5, 0.2), dense=0.4).lengths(100) == [40, 30, 30]
    assert Pruning((0.5, 0.2), dense=0.4, settle=0.2).lengths(100) == [40, 20, 40]
    shared = Sharing(5, {}, codebook.linear, 0.1)
    assert Pruning((0.5, 0.2), dense=0.4, settle=0.2, sharing=shared).lengths(100) == [40, 20, 30, 10]
    assert Pruning((0.5, 0.2), sharing=shared).lengths(100) == [0, 45, 45, 10]
    assert sum(Pruning((0.5,) * 3, dense=0.9, settle=0.5, sharing=shared).lengths(77)) == 77


def begun_from_the_start(experiment, phase):
    """The first state of a run as a phase begins with it."""
    state, rule = jax.device_get(trained()[0].init(0)), experiment.optimizers["classifier"]
    own = {"classifier": jax.device_get(rule.init(state.params["classifier"]))}
    return phase.begin(dataclasses.replace(state, opt_state=own), {})


def test_a_part_without_steps_leaves_its_beginning_to_the_next_one():
    experiment = made(**{**SHARING, "part": 1.0}, rounds=1, dense=0.0)
    (phase,) = experiment.phases
    assert phase.steps == 8
    begun = begun_from_the_start(experiment, phase)
    for path, leaf in kernels(begun.params["classifier"]).items():
        few = 8 if path.startswith("output") else 4
        assert 0 < kept(leaf) < leaf.size and len(np.unique(leaf[leaf != 0])) <= few, "pruned, then shared"


def test_fewer_steps_than_rounds_end_as_pruned_as_many():
    experiment = made(rounds=5, dense=0.5, duration="2 steps")
    *_, last = experiment.phases
    begun = begun_from_the_start(experiment, last)
    shares = {path: kept(leaf) / leaf.size for path, leaf in kernels(begun.params["classifier"]).items()}
    for path, share in shares.items():
        assert share == pytest.approx(0.5 if path.startswith("output") else 0.2, abs=0.02), shares


@pytest.mark.slow
@KINDS
def test_resumed_equals_uninterrupted_bit_for_bit_at_the_borders_of_rounds(kind):
    program, whole, curve, saved = trained(kind=kind)
    for at in (3, FIRST, FIRST + 1, SECOND):
        resumed, _, rest, _ = toys.run(program.experiment, program=program, intervals=EVERY, resume=(*saved[at], at))
        assert tree_digest(resumed) == tree_digest(whole), at
        assert rest == {step: numbers for step, numbers in curve.items() if step > at}, at


@pytest.mark.slow
@KINDS
def test_eight_devices_prune_the_same_weights(kind):
    (_, alone, curve, _), (_, shared, other, _) = trained(kind=kind), trained(8, kind=kind)
    assert toys.gap(alone, shared) < 1e-4
    assert tree_digest(alone.opt_state["classifier"].mask) == tree_digest(shared.opt_state["classifier"].mask)
    for step, numbers in curve.items():
        assert dict(sorted(other[step].items())) == pytest.approx(dict(sorted(numbers.items())), rel=2e-5, abs=1e-6), step


@pytest.mark.slow
@KINDS
def test_runs_in_one_batched_program_have_masks_of_their_own(kind):
    program, alone, _, _ = trained(kind=kind)
    state = toys.two_batched(program, intervals=EVERY)
    first, second = (jax.device_get(select_member(state, member)) for member in range(2))
    assert tree_digest(first.opt_state["classifier"].mask) == tree_digest(alone.opt_state["classifier"].mask)
    assert tree_digest(second.opt_state["classifier"].mask) != tree_digest(alone.opt_state["classifier"].mask)
    assert toys.gap(first.params, alone.params) < 1e-4


def test_a_ticket_goes_back_to_the_first_weights_and_its_control_draws_those_of_the_same_mask_in_another_order():
    first = kernels(jax.device_get(trained(rewind="start")[0].init(0).params["classifier"]))
    found = {}
    for rewind in ("start", "redraw", "reorder"):
        program, _, _, saved = trained(rewind=rewind)
        for phase, step in ((1, FIRST), (2, SECOND)):
            begun = program.experiment.phases[phase].begin(saved[step][0], {})
            found[rewind, phase] = kernels(begun.opt_state["classifier"].mask)
            for path, leaf in kernels(begun.params["classifier"]).items():
                mask = found[rewind, phase][path] > 0
                assert kept(leaf) == mask.sum()
                assert np.array_equal(leaf, np.where(mask, first[path], 0)) == (rewind == "start" or phase == 1)
                assert set(leaf[mask]) <= set(first[path].reshape(-1))
                if rewind == "reorder":
                    assert sorted(leaf[mask]) == sorted(first[path][mask])
            moments = jax.tree.leaves(begun.opt_state["classifier"].inner)
            assert all(not np.any(leaf) for leaf in moments), "the optimiser begins anew"
            assert begun.average.keys() == saved[step][0].average.keys()
    for phase, rewind in itertools.product((1, 2), ("redraw", "reorder")):
        assert all(np.array_equal(leaf, found[rewind, phase][path]) for path, leaf in found["start", phase].items())


@pytest.mark.slow
def test_channels_that_are_gone_stay_exactly_0_in_weights_norms_and_averages():
    _, _, _, saved = trained(kind="channels")
    for step in (FIRST + 1, SECOND, SECOND + 1, 8):
        state = saved[step][0]
        stay = {"dense1": 12, "dense2": 8}
        for name, count in stay.items():
            share = {"dense1": 0.2, "dense2": 0.5}[name] ** (0.5 if step <= SECOND else 1.0)
            for tree in (state.params["classifier"], state.average["classifier"]):
                after = tree["norm1" if name == "dense1" else "norm2"]
                alive = np.any(tree[name]["kernel"], axis=0)
                below = tree["dense2" if name == "dense1" else "output"]["kernel"]
                assert np.sum(alive) == np.ceil(share * count), (step, name)
                assert not np.any(after["scale"][~alive]) and not np.any(after["bias"][~alive]) and not np.any(below[~alive])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"density": 1.5}, "it is the share of weights that stay"),
        ({"density_by_layer": "output"}, "is not REGEX=SHARE"),
        ({"density_by_layer": "output=0"}, "is not REGEX=SHARE"),
        ({"early_stopping": 2}, "--pruning and --early_stopping"),
    ],
)
def test_knobs_that_fit_nothing_are_refused(given, expected):
    with pytest.raises(UsageError, match=expected):
        made(**given)


def test_a_pattern_that_matches_no_kernel_is_refused_when_a_round_begins():
    with pytest.raises(UsageError, match="matches no layer"):
        pruning.shares_of({"a": {"kernel": np.ones((2, 2))}}, 0.5, [("z.*", 0.1)])


def test_curves_are_read_from_the_last_phase_on():
    """A loss that leaps where weights are taken away is no sign of a rate that is too high."""
    resolved = knobs.resolve(classification, {**KNOBS, "duration": "800 steps"})
    experiment = resolved.call()
    begun = experiment.steps - experiment.phases[-1].steps
    leaps = [{"step": step, "train/loss": 0.1 if step <= begun else 0.5, "train/accuracy": 0.9} for step in range(20, 801, 20)]
    spec = RunSpec("pruned", resolved.values, "f32", "")
    assert final_figures.read(leaps, spec, experiment) == []
