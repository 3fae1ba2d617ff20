"""Members of a family share a compilation and give what each gives alone; the steadiest setting is chosen."""

import pytest

from cnnlab import knobs
from cnnlab.engine.family import family, measure, steadiest
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


def test_the_setting_with_the_best_worst_run_is_chosen():
    assert steadiest({0.01: (0.8, 0.81), 0.1: (0.9, 0.3), 0.05: (0.81, 0.8)}) == 0.01
