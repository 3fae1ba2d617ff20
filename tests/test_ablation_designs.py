"""Designs of a study: what is read from --vary, which arms come out, and the rules of the searches."""

import functools
import itertools
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import kstest

from cnnlab import knobs
from cnnlab.ablation.plan import designs
from cnnlab.ablation.plan.designs import grid, one_factor_at_a_time, varied, zip_levels
from cnnlab.ablation.plan.levels import Distribution, parse_vary
from cnnlab.ablation.plan.study import BASELINE, Arm
from cnnlab.errors import UsageError
from cnnlab.values import Choice, Count, Duration, Fraction, NonNegative, Positive, Probability, Range, describe_type

FACTORS = {"norm": ("batch", "layer", "none"), "activation": ("relu", "tanh"), "widths": ("64,32", "128")}


# Reading ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "knob", "levels"),
    [
        ("norm:batch,none", "norm", ("batch", "none")),
        ("dataset:tfds:mnist,digits", "dataset", ("tfds:mnist", "digits")),
        ("nesterov: true, false", "nesterov", ("true", "false")),
        ("model.widths:(64,32),(128,)", "model.widths", ("64,32", "128")),
        ("model.widths:[64,32],[128]", "model.widths", ("[64,32]", "[128]")),
        ("only_classes:(),(0,1)", "only_classes", ("", "0,1")),
        ("frozen:(conv(1|2),dense.*),(?:a|b)", "frozen", ("conv(1|2),dense.*", "(?:a|b)")),
        ("frozen:conv(1|2)", "frozen", ("conv(1|2)",)),
        ("lr:log(1e-4,1)", "lr", Distribution("log", 1e-4, 1.0)),
        ("dropout:uniform(0,0.6)", "dropout", Distribution("uniform", 0.0, 0.6)),
        ("width:integer(8,64)", "width", Distribution("integer", 8, 64)),
        ("optimizer:choice(sgd,adam)", "optimizer", Distribution("choice", options=("sgd", "adam"))),
    ],
)
def test_vary_is_read(text, knob, levels):
    assert parse_vary([text]) == {knob: levels}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["norm"], r"--vary=norm is not KNOB:LEVELS\.\n.*--vary=norm:batch,none"),
        (["norm=batch,none"], "is not KNOB:LEVELS"),
        (["--norm:batch"], "is not KNOB:LEVELS"),
        (["norm:"], r"--vary=norm:: no levels\.\nExpected levels separated by single commas"),
        (["norm:batch,,none"], "an empty level"),
        (["norm:batch,"], "an empty level"),
        (["norm:batch", "norm:none"], r"--vary names norm twice\.\n.*--vary=norm:…"),
        (["widths:(64,32"], "the brackets do not match"),
        (["widths:(64]"], "the brackets do not match"),
        (["widths:64),(32"], "the brackets do not match"),
        (["lr:uniform(1,0.1)"], r"low 1 is not below high 0\.1\.\nExpected uniform\(LOW,HIGH\) with LOW < HIGH"),
        (["lr:log(1,1)"], "low 1 is not below high 1"),
        (["lr:log(0,1)"], r"the logarithm of low 0 does not exist\.\n.*uniform\(0,1\)"),
        (["lr:uniform(0,nan)"], r"uniform takes two finite numbers, got \(0,nan\)"),
        (["lr:uniform(0)"], "uniform takes two finite numbers"),
        (["width:integer(8,9.5)"], r"integer takes two whole numbers, got \(8,9\.5\)\.\n.*integer\(8,64\)"),
        (["optimizer:choice(sgd,sgd)"], "the level sgd stands there twice"),
        (["optimizer:choice()"], "no levels"),
        (["lr:unifrom(0,1)"], r"no distribution unifrom\. Did you mean uniform\?\nExpected one of uniform\(LOW,HIGH\)"),
        (["lr:0.5,uniform(0,1)"], "a distribution stands beside other levels"),
    ],
)
def test_vary_that_is_wrong_says_what_was_expected(texts, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_vary(texts)
    assert "Expected" in str(caught.value)


# Factors ---------------------------------------------------------------------------------------------------------------


def assert_sound(arms, factors):
    """Checks what holds for every design of factors: baseline first, every level present, no arm and no name twice."""
    assert isinstance(arms, tuple) and all(isinstance(arm, Arm) for arm in arms)
    assert arms[0].name == BASELINE and dict(arms[0].knobs) == {knob: levels[0] for knob, levels in factors.items()}
    assert all(arm.knobs.keys() == factors.keys() for arm in arms)
    assert len({tuple(arm.knobs.values()) for arm in arms}) == len({arm.name for arm in arms}) == len(arms)
    assert json.loads(json.dumps([arm.knobs for arm in arms])) == [arm.knobs for arm in arms]


def test_a_grid_has_every_combination_once_the_baseline_first():
    arms = grid(FACTORS)
    assert_sound(arms, FACTORS)
    assert {tuple(arm.knobs.values()) for arm in arms} == set(itertools.product(*FACTORS.values())) and len(arms) == 12
    assert arms[1].name == "widths=128" and arms[-1].name == "norm=none, activation=tanh, widths=128"
    assert varied(arms) == FACTORS


def test_one_factor_at_a_time_changes_one_factor_in_each_arm():
    arms = one_factor_at_a_time(FACTORS)
    assert_sound(arms, FACTORS)
    assert [arm.name for arm in arms[1:]] == ["norm=layer", "norm=none", "activation=tanh", "widths=128"]
    for arm in arms[1:]:
        assert sum(arm.knobs[knob] != arms[0].knobs[knob] for knob in FACTORS) == 1
    assert varied(arms) == FACTORS


def test_zip_goes_through_the_levels_together():
    factors = {"depth": ("1", "2", "3"), "widths": ("64", "64,32", "64,32,16")}
    arms = zip_levels(factors)
    assert_sound(arms, factors)
    assert [arm.name for arm in arms[1:]] == ["depth=2, widths=(64,32)", "depth=3, widths=(64,32,16)"]
    together = zip_levels({"loss": ("a", "b", "c"), "turns": ("1", "1", "5")})
    assert [arm.name for arm in together] == [BASELINE, "loss=b", "loss=c, turns=5"]
    with pytest.raises(UsageError, match=r"the level \(loss=a, turns=1\) stands there twice"):
        zip_levels({"loss": ("a", "b", "a"), "turns": ("1", "1", "1")})
    with pytest.raises(UsageError, match=r"zip goes .* norm has 3, activation has 2, widths has 2\.\nExpected as many of each"):
        zip_levels(FACTORS)


@pytest.mark.parametrize("make", [grid, one_factor_at_a_time, lambda factors: designs.random(factors, trials=3, seed=0)])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("norm:batch,none,batch", r"the level batch stands there twice\.\nExpected each level once"),
        ("lr:0.1,1e-1", "the level 1e-1 stands there twice"),
        ("widths:(64,32),(64,32)", r"the level \(64,32\) stands there twice"),
    ],
)
def test_a_level_that_comes_twice_is_refused(make, text, message):
    with pytest.raises(UsageError, match=message):
        make(parse_vary([text]))


@pytest.mark.parametrize("make", [grid, zip_levels, one_factor_at_a_time])
def test_designs_of_levels_refuse_a_distribution_and_say_what_to_write(make):
    with pytest.raises(UsageError, match=r"goes through levels, and this is a distribution\.\n.*--vary=optimizer:sgd,adam"):
        make(parse_vary(["optimizer:choice(sgd,adam)"]))
    with pytest.raises(
        UsageError, match=r"--vary=lr:log\(0\.0001,1\)(.|\n)*--vary=lr:0\.0001,0\.01,1, or take the design random"
    ):
        make(parse_vary(["lr:log(1e-4,1)"]))
    with pytest.raises(UsageError, match=r"nothing to vary(.|\n)*--vary=KNOB:LEVELS"):
        make({})
    with pytest.raises(UsageError, match="no levels"):
        make({"norm": ()})


RANDOM = parse_vary(
    ["lr:log(1e-4,1)", "dropout:uniform(0,0.6)", "width:integer(8,10)", "optimizer:choice(sgd,adam)", "norm:batch,none"]
)


def test_random_trials_depend_on_the_seed_and_their_number_alone():
    ten = designs.random(RANDOM, 10, seed=3)
    assert ten == designs.random(RANDOM, 10, seed=3) == designs.random(RANDOM, 50, seed=3)[:10]
    assert ten[0].name.startswith("trial 1: lr=") and len({arm.name for arm in ten}) == 10
    assert all(arm.knobs.keys() == RANDOM.keys() for arm in ten)
    assert ten[0].knobs != designs.random(RANDOM, 1, seed=4)[0].knobs
    fewer = designs.random({"dropout": RANDOM["dropout"]}, 10, seed=3)
    assert [arm.knobs["dropout"] for arm in fewer] == [arm.knobs["dropout"] for arm in ten]
    own = dict.fromkeys(RANDOM, "1")
    assert designs.random(RANDOM, 10, seed=3, baseline=own) == (Arm(BASELINE, own), *ten)
    with pytest.raises(UsageError, match="0 trials has no arms"):
        designs.random(RANDOM, 0, seed=0)


def test_random_levels_follow_their_distributions():
    """Kolmogorov and Smirnov for the continuous ones; for the others, counts within five standard deviations."""
    arms = designs.random(RANDOM, 2000, seed=0)
    log = [math.log(float(arm.knobs["lr"]) / 1e-4) / math.log(1e4) for arm in arms]
    uniform = [float(arm.knobs["dropout"]) / 0.6 for arm in arms]
    assert kstest(log, "uniform").pvalue > 0.01 and kstest(uniform, "uniform").pvalue > 0.01
    assert kstest([float(arm.knobs["lr"]) for arm in arms], "uniform").pvalue < 1e-9  # and the test would notice
    for knob, options in {"width": ("8", "9", "10"), "optimizer": ("sgd", "adam"), "norm": ("batch", "none")}.items():
        drawn = [arm.knobs[knob] for arm in arms]
        assert set(drawn) == set(options)
        share = 1 / len(options)
        for option in options:
            assert abs(drawn.count(option) - 2000 * share) < 5 * math.sqrt(2000 * share * (1 - share))


SEARCHED = parse_vary(["lr:log(1e-4,1)", "dropout:uniform(0,0.6)"])


def test_grid_and_random_has_the_middles_of_equal_parts_and_draws_of_the_random_design():
    own = {"lr": "0.05", "dropout": "0.5"}
    arms = designs.grid_and_random(SEARCHED, 3, own)
    points = [arm for arm in arms if arm.name.startswith(designs.POINT)]
    trials = tuple(arm for arm in arms if arm.name.startswith(designs.TRIAL))
    assert arms == (Arm(BASELINE, own), *points, *trials) and len({arm.name for arm in arms}) == len(arms) == 1 + 9 + 36
    assert trials == designs.random(SEARCHED, 36, seed=3)
    levels = varied(points)
    np.testing.assert_allclose(np.log10(np.float64(levels["lr"])), [-10 / 3, -2, -2 / 3], rtol=1e-4)
    np.testing.assert_allclose(np.float64(levels["dropout"]), [0.1, 0.3, 0.5], rtol=1e-4)
    assert {tuple(arm.knobs.values()) for arm in points} == set(itertools.product(*levels.values()))
    assert points[0].name == "point 1: lr=0.000464159, dropout=0.1"


def test_grids_and_random_has_grids_at_random_offsets_and_as_many_trials():
    own = {"lr": "0.05", "dropout": "0.5"}
    first, *arms = designs.grids_and_random(SEARCHED, 3, own)
    points, trials = arms[: len(arms) // 2], arms[len(arms) // 2 :]
    assert first == Arm(BASELINE, own) and tuple(trials) == designs.random(SEARCHED, 8 * 4, seed=3)
    offsets = []
    for number in range(8):
        grid_points = points[4 * number : 4 * number + 4]
        assert all(arm.name.startswith(f"grid {number + 1} point ") for arm in grid_points)
        levels = varied(grid_points)
        assert {tuple(arm.knobs.values()) for arm in grid_points} == set(itertools.product(*levels.values()))
        rates = sorted((np.log10(np.float64(levels["lr"])) + 4) / 4)  # shares of the distribution
        np.testing.assert_allclose(rates[1] - rates[0], 0.5, atol=1e-4)
        offsets.append(rates[0])
    assert len(set(offsets)) == 8 and 0 <= min(offsets) < 0.2 and 0.3 < max(offsets) < 0.5


def test_a_grid_over_distributions_needs_distributions_with_levels_enough():
    own = {"lr": "0.05", "norm": "batch", "width": "3"}
    with pytest.raises(UsageError, match=r"--vary=norm:batch,none: the design grid_and_random .*\nExpected one of uniform"):
        designs.grid_and_random(parse_vary(["lr:log(1e-4,1)", "norm:batch,none"]), 0, own)
    with pytest.raises(UsageError, match=r"integer\(3,4\): the grid .* 3 levels .* would be 3, 4, 4\.\n.*Widen it"):
        designs.grid_and_random(parse_vary(["width:integer(3,4)"]), 0, own)
    with pytest.raises(UsageError, match="nothing to vary"):
        designs.grid_and_random({}, 0, {})


def test_a_distribution_never_leaves_its_range():
    for distribution in (Distribution("uniform", 0.1234567, 0.12345671), Distribution("log", 1e-7, 1.0000001)):
        for share in (0.0, 0.3, 1 - 2.0**-53):
            assert distribution.low <= float(distribution.at(share)) <= distribution.high
    assert [Distribution("integer", -1, 1).at(share) for share in (0.0, 0.5, 1 - 2.0**-53)] == ["-1", "0", "1"]


# Components ------------------------------------------------------------------------------------------------------------


def batch(*, momentum: Fraction = 0.9, epsilon: Positive = 1e-5):
    pass


def none():
    pass


def pad_crop(*, pad: Count = 4):
    pass


NORMS = {"batch": batch, "none": none}


def network(*, norm: Choice[NORMS] = "batch", dropout: Fraction = 0.5, depth: Count = 3, widths: tuple[int, ...] = (64, 32)):
    pass


def recipe(
    *,
    model: Choice[{"network": network}] = "network",
    augment: Choice[{"none": none, "pad_crop": pad_crop}] = functools.partial(pad_crop, pad=2),
    weight_decay: NonNegative = 5e-4,
    clip_norm: Positive | None = 1.0,
    nesterov: bool = True,
    smoothing: Probability = 0.0,
    duration: Duration = Duration(2, "epochs"),
):
    pass


RESOLVED = knobs.resolve(recipe, {})
OFF = {"dropout": "0", "norm": "none", "augment": "none", "weight_decay": "0", "clip_norm": "none", "nesterov": "false"}
ON = {
    "dropout": "0.5",
    "norm": "batch",
    "augment": "pad_crop",
    "weight_decay": "0.0005",
    "clip_norm": "1.0",
    "nesterov": "true",
}
PATHS = {"dropout": "model.dropout", "norm": "model.norm"}


def switches(arm):
    return {name: arm.knobs[PATHS.get(name, name)] for name in OFF}


def test_leave_one_out_has_all_on_and_then_each_off():
    arms = designs.leave_one_out(list(OFF), RESOLVED)
    assert [arm.name for arm in arms] == [BASELINE, *(f"{name}={off}" for name, off in OFF.items())]
    assert switches(arms[0]) == ON
    for arm, name in zip(arms[1:], OFF, strict=True):
        assert switches(arm) == ON | {name: OFF[name]}
    assert knobs.resolve(recipe, arms[0].knobs).values == RESOLVED.values
    assert varied(arms) == {PATHS.get(name, name): (ON[name], OFF[name]) for name in OFF}


def test_add_one_in_has_all_off_and_then_each_at_the_experiments_value():
    arms = designs.add_one_in(list(OFF), RESOLVED)
    assert [arm.name for arm in arms] == [BASELINE, *(f"{name}={on}" for name, on in ON.items())]
    assert switches(arms[0]) == OFF
    for arm, name in zip(arms[1:], OFF, strict=True):
        assert switches(arm) == OFF | {name: ON[name]}
        knobs.resolve(recipe, arm.knobs)
    # A bare `--augment=pad_crop` would bring that function's own padding of 4 back.
    assert knobs.resolve(recipe, arms[3].knobs).values["augment.pad"] == RESOLVED.values["augment.pad"] == 2


def test_a_component_takes_the_off_value_that_it_is_given():
    arms = designs.leave_one_out(["depth:1", "model.widths:(8,8)", "dropout:0.1"], RESOLVED)
    assert arms[0].knobs == {"model.depth": "3", "model.widths": "64,32", "model.dropout": "0.5"}
    assert [arm.name for arm in arms[1:]] == ["depth=1", "model.widths=(8,8)", "dropout=0.1"]
    assert knobs.resolve(recipe, arms[2].knobs).values["model.widths"] == [8, 8]


@pytest.mark.parametrize("make", [designs.leave_one_out, designs.add_one_in])
@pytest.mark.parametrize(
    ("components", "message"),
    [
        ([], "there are no components"),
        (
            ["depth"],
            r"no value is known that switches depth off: .*model\.depth takes int finite and >= 1\.\n.*depth:OFF_VALUE",
        ),
        (["duration"], r"component:off_value"),
        (["widths"], r"component:off_value"),
        (["model"], r"component:off_value"),
        (["smoothing"], r"smoothing is off already in the experiment: --smoothing=0\.0\.\n.*--smoothing=ON_VALUE"),
        (["dropout:0.50"], "dropout is off already in the experiment"),
        (["dropout:"], "no off value after its colon"),
        (["dorpout"], r"no knob 'dorpout' to switch off\. Did you mean dropout\?\nExpected one of: model, model\.norm"),
        (["dropout", "model.dropout:0.1"], r"the component model\.dropout stands there twice"),
        (["model.norm.momentum", "norm"], r"--model\.norm\.momentum lies below --model\.norm and is gone where that is off"),
    ],
)
def test_a_component_that_cannot_be_switched_says_so(make, components, message):
    with pytest.raises(UsageError, match=message):
        make(components, RESOLVED)


def test_an_ambiguous_component_asks_for_the_whole_name():
    def two(*, first: Choice[NORMS] = "batch", second: Choice[NORMS] = "batch"):
        pass

    with pytest.raises(UsageError, match=r"momentum could be --first\.momentum or --second\.momentum\.\nWrite the whole name"):
        designs.leave_one_out(["momentum"], knobs.resolve(two, {}))


@pytest.mark.parametrize(
    ("annotation", "takes_zero"),
    [
        (int, True),
        (float, True),
        (Positive, False),
        (NonNegative, True),
        (Probability, True),
        (Fraction, True),
        (Count, False),
        (str, False),
        (Range(-1e-3, 0), True),
        (Range(-1.5, 0, open_high=True), False),
        (Range(-3), True),
        (Range(0.1, 2, open_low=True), False),
        (Range(high=-1), False),
        (Range(), True),
    ],
)
def test_numbers_that_include_zero_are_known_by_their_description(annotation, takes_zero):
    kind = f"float {annotation}" if isinstance(annotation, Range) else describe_type(annotation)
    numbers = designs._range(kind)
    assert (numbers is not None and 0 in numbers) == takes_zero


# Search ----------------------------------------------------------------------------------------------------------------


def test_designs_are_printable_and_import_no_jax():
    assert list(designs.DESIGNS) == [
        "grid",
        "zip",
        "one_factor_at_a_time",
        "leave_one_out",
        "add_one_in",
        "random",
        "grid_and_random",
        "grids_and_random",
    ]
    code = "import sys, cnnlab.ablation.plan.designs; sys.exit('jax' in sys.modules)"
    root = pathlib.Path(__file__).resolve().parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False, timeout=60).returncode == 0
