"""Members of a family share a compilation and give what each gives alone; settings are chosen and steps to a level counted."""

import pytest

from cnnlab import knobs
from cnnlab.engine.family import family, measure, steadiest, steps_to
from cnnlab.engine.in_memory import on_devices, train_in_memory
from cnnlab.recipes.classification import classification

GIVEN = {
    "model": "linear",
    "data.dataset": "digits",
    "data.examples_per_class": 20,
    "data.examples_seed": "run",
    "duration": "3 steps",
}
LR = "optimizer.lr"


def test_a_member_of_a_family_gives_what_it_gives_alone():
    found = family(knobs.resolve(classification, GIVEN), {LR: 0.01}).train({LR: 0.1}, 3, ("train", "test"), at=(1,))
    alone = on_devices(knobs.resolve(classification, GIVEN | {LR: 0.1}).call()).for_run(3)
    states = train_in_memory(alone, 3, at=(1,)).states
    assert list(found) == [1, 3] == list(states)
    for step, state in states.items():
        for split in ("train", "test"):
            assert found[step][split] == pytest.approx(measure(alone, state, split), rel=1e-5)
    assert found[1]["train"]["loss"] > found[3]["train"]["loss"]


def test_members_that_are_trained_together_give_what_each_gives_alone():
    rates = family(knobs.resolve(classification, GIVEN), {LR: 0.01})
    members: list[tuple[dict[str, float], int]] = [({LR: 0.1}, 3), ({LR: 0.02}, 3), ({LR: 1e30}, 4)]
    together = rates.train_together(members, ("train", "test"), at=(1,), steps_per_dispatch=2)
    for (numbers, seed), found in zip(members[:2], together[:2], strict=True):
        alone = rates.train(numbers, seed, ("train", "test"), at=(1,))
        assert list(found) == [1, 3]
        for step, splits in alone.items():
            for split, summary in splits.items():
                assert found[step][split] == pytest.approx(summary, rel=1e-5)
    assert not together[2][3]["test"]["loss"] < 1e6, "the last one diverges, and the others do not"


def test_the_setting_with_the_best_worst_run_is_chosen():
    assert steadiest({0.01: (0.8, 0.81), 0.1: (0.9, 0.3), 0.05: (0.81, 0.8)}) == 0.01


def test_steps_are_counted_to_the_first_time_that_a_level_is_reached():
    losses = {10: 0.9, 20: 0.4, 30: 0.6, 40: 0.3, 50: float("nan")}
    assert steps_to(0.5, losses) == 20
    assert steps_to(0.5, losses, over=2) == 30, "the mean of 0.4 and 0.6, and no mean before there are two values"
    assert steps_to(0.1, losses) == steps_to(0.1, losses, over=6) == 50, "the last step where it never is"
