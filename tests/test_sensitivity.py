"""A trained network with one layer pruned at a time: what is measured, by one program, and its table and picture."""

import dataclasses

import numpy as np
import pytest
from commands import Here
from contract import TRAINED

from cnnlab import knobs
from cnnlab.engine import train
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.errors import UsageError
from cnnlab.figures.sensitivity import sensitivity
from cnnlab.inspect.sensitivity import as_json, as_table, scan
from cnnlab.ops import pruning
from cnnlab.recipes.classification import classification
from cnnlab.runs.summaries import summarise
from cnnlab.terminal import Terminal

KNOBS = {**TRAINED, "model": "mlp", "model.widths": "8,6", "model.norm": "batch", "frozen": "dense1", "duration": "1 steps"}


@pytest.fixture(scope="module")
def opened():
    program = build_program(knobs.resolve(classification, KNOBS).call(), STRATEGIES["jit"](pick_devices(1)), precision="f32")
    return program, program.strategy.to_host(program.init(0))


def test_each_layer_is_pruned_alone_and_measured_by_one_program(opened):
    program, state = opened
    done = []
    found = scan(program, state, kind="weights", densities=(1.0, 0.25), say=lambda *count: done.append(count))
    assert found.layers == ("dense1", "dense2", "output") and found.split == "validation" and found.metric.name == "accuracy"
    assert np.all(found.values[:, 0] == found.whole) and np.any(found.values[:, 1] != found.whole)
    assert done == [(number, 7) for number in range(1, 7)]
    own = state.params["classifier"]
    mask = pruning.masks(own, {"dense2/kernel": 0.25}, "layer")
    changed = dataclasses.replace(state, params={**state.params, "classifier": pruning.pruned(own, mask)})
    stats = train.evaluate(program, program.strategy.to_devices(changed), "validation")
    assert found.values[1, 1] == summarise(program.experiment.task, stats)["accuracy"]
    assert program.measure._cache_size() == 1, "compiled once"


def test_channels_of_each_layer_go_and_the_table_and_the_picture_have_them_all(opened):
    found = scan(*opened, kind="channels", densities=(1.0, 0.5))
    assert found.layers == ("dense1", "dense2") and np.all(found.values[:, 0] == found.whole)
    text = as_table(found, Terminal(width=80))
    assert "50 %" in text and f"{found.values[1, 1]:.4f}" in text and "on validation with one layer pruned" in text
    assert as_json(found)["layers"]["dense1"] == found.values[0].tolist()
    figure = sensitivity(found.values, found.layers, found.densities, whole=found.whole, title="a title", note="a note")
    texts = [text.get_text() for text in figure.texts]
    assert {"dense1", "dense2", "100 %", "50 %", "a title", f"{found.values[0][1]:.3f}"} <= set(texts)


@pytest.mark.parametrize("densities", [(), (0.0,), (1.5,)])
def test_densities_that_are_no_shares_are_refused(opened, densities):
    with pytest.raises(UsageError, match="they are shares of a layer that stay"):
        scan(*opened, kind="weights", densities=densities)


@pytest.mark.parametrize(
    ("words", "expected"), [((), "sensitivity of which run"), (("--workdir=run", "--to=x.pdf"), "the picture is a PNG")]
)
def test_what_is_missing_is_said(here: Here, words, expected):
    code, _, err = here("sensitivity", *words)
    assert code == 2 and expected in err


@pytest.mark.slow
def test_the_command_prints_a_table_and_draws_a_picture(here: Here, tmp_path):
    assert here("--experiment=mlp_digits", "--widths=8", "--steps=2", "--workdir=run")[0] == 0
    code, out, err = here("sensitivity", "--workdir=run", "--densities=0.5,0.1")
    assert code == 0, err
    assert "dense1" in out and "10 %" in out and (tmp_path / "run/figures/sensitivity_weights.png").stat().st_size > 1000
