"""Alternating training of Faster R-CNN: who moves what in which step, whose proposals count, resuming, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from contract import TWO_STAGES

from cnnlab import knobs
from cnnlab.engine.checkpoint import tree_digest
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program, phases
from cnnlab.engine.train import Intervals
from cnnlab.errors import UsageError
from cnnlab.recipes.detection import detection
from cnnlab.tasks.stages_in_turns import FEATURES, PLAYERS, PROPOSAL, PROPOSAL_FEATURES, REGIONS, divided

KNOBS = {
    **{name: value for name, value in TWO_STAGES.items() if "mask" not in name and name != "dataset.instances"},
    "model": "faster_rcnn",
    "training": "alternating",
    "average_decay": 0.5,
    "duration": "8 steps",
}
ENDS = (2, 4, 6, 8)
"""Steps at which the four steps of training end."""
EVERY = Intervals(log=2, evaluate=100, save=1)


@functools.cache
def trained(devices=1):
    """(the program, the state at the end, {step: curve}, {step: (state, pending statistics)}) of a run."""
    experiment = knobs.resolve(detection, KNOBS).call()
    program = build_program(experiment, STRATEGIES["jit"](pick_devices(devices)), precision="f32")
    state, _, curve, saved = toys.run(experiment, program=program, intervals=EVERY)
    return program, state, curve, saved


def images_of(experiment):
    """The first images [4, H, W, C] of the test split as the network sees them."""
    data = experiment.data
    feed = jax.tree.map(jnp.asarray, next(data.evaluate("test", 4)))
    return data.prepare(data.resident.get("test", {}), feed, None)["image"]


@pytest.mark.slow
def test_each_step_moves_the_layers_of_its_player_alone_and_the_third_begins_with_shared_features():
    program, _, curve, saved = trained()
    start = jax.device_get(program.init(0).params)
    before = {group: tree_digest(start[group]) for group in start}
    assert before[FEATURES] == before[PROPOSAL_FEATURES]
    for end, (player, moved) in zip(ENDS, PLAYERS.items(), strict=True):
        after = {group: tree_digest(tree) for group, tree in saved[end][0].params.items()}
        changed = {group for group in after if after[group] != before[group]}
        assert changed == set(moved) | ({PROPOSAL_FEATURES} if player == "proposer_on_shared" else set()), player
        before = after
        learnt = {name for name, value in curve[end].items() if name.endswith("loss") and name != "loss" and value > 0}
        assert learnt == ({"proposal_loss", "proposal_box_loss"} if PROPOSAL in moved else {"class_loss", "box_loss"})
    end = saved[8][0]
    assert tree_digest(end.params[FEATURES]) == tree_digest(end.params[PROPOSAL_FEATURES])
    assert [phase.turns for phase in phases(program.experiment)] == [(player,) for player in PLAYERS]


@pytest.mark.slow
def test_at_the_end_both_stages_are_one_network():
    program, state, _, _ = trained()
    task, images = program.experiment.task, images_of(program.experiment)
    shared = {**state.params[FEATURES], **state.params[PROPOSAL], **state.params[REGIONS]}
    joint = knobs.resolve(detection, {**KNOBS, "training": "joint"}).call().task
    expected = jax.jit(joint.predict)({"detector": shared}, {}, images)
    found = jax.jit(task.predict)(state.params, state.model_state, images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert jax.tree.map(jnp.shape, divided(shared)) == jax.tree.map(jnp.shape, state.params)


@pytest.mark.slow
def test_regions_are_the_proposals_of_the_first_stage():
    program, state, _, _ = trained()
    predict, images = jax.jit(program.experiment.task.predict), images_of(program.experiment)
    boxes = predict(state.params, state.model_state, images)[..., :5]
    for group, same in {FEATURES: True, REGIONS: True, PROPOSAL_FEATURES: False, PROPOSAL: False}.items():
        other = {**state.params, group: jax.tree.map(lambda leaf: 0.5 * leaf, state.params[group])}
        assert np.array_equal(predict(other, state.model_state, images)[..., :5], boxes) is same, group


@pytest.mark.slow
def test_resumed_equals_uninterrupted_bit_for_bit_within_and_between_the_steps():
    program, whole, curve, saved = trained()
    for at in (1, 2, 4, 5):
        resumed, _, rest, _ = toys.run(program.experiment, program=program, intervals=EVERY, resume=(*saved[at], at))
        assert tree_digest(resumed) == tree_digest(whole), at
        assert rest == {step: numbers for step, numbers in curve.items() if step > at}, at


@pytest.mark.slow
def test_eight_devices_have_the_curve_of_one():
    (_, alone, curve, _), (_, shared, other, _) = trained(), trained(8)
    assert toys.gap(alone, shared) < 1e-4
    for step, numbers in curve.items():
        assert dict(sorted(other[step].items())) == pytest.approx(dict(sorted(numbers.items())), rel=2e-5, abs=1e-6), step


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"model": "fast_rcnn", "proposals": "selective_search"}, "no two stages that could be trained in turns"),
        ({"frozen": "encoder"}, "--frozen and --training=alternating"),
        ({"lr_multipliers": "encoder=0.1"}, "--lr_multipliers and --training=alternating"),
        ({"early_stopping": 2}, "--early_stopping and --training=alternating"),
    ],
)
def test_knobs_that_have_no_meaning_are_refused(given, expected):
    network = KNOBS if "model" not in given else {name: KNOBS[name] for name in KNOBS if not name.startswith("model")}
    with pytest.raises(UsageError, match=expected):
        knobs.resolve(detection, {**network, **given}).call()
