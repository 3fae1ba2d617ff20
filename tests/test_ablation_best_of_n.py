"""The best of n trials: exact expectations against enumeration, and verdicts on data with a planted null or advantage."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from cnnlab.ablation import commands
from cnnlab.ablation.analyse import best_of_n, search_verdict
from cnnlab.ablation.analyse.results import Analysis, ArmSummary
from cnnlab.ablation.plan.study import Arm, RunResult, Study
from cnnlab.errors import UsageError
from cnnlab.metric import name_of
from cnnlab.tasks.classification_metrics import METRICS

DECLARED = {metric.name: metric for metric in METRICS}


def analysis(metric, table, *, failed=()):
    """Analyses the runs of {arm: values by seed}; None is a run that diverged."""
    rows = []
    for arm, values in table.items():
        done = tuple((seed, float(value)) for seed, value in enumerate(values) if value is not None)
        fallen = int(arm in failed)
        counts = {"planned": len(values), "done": len(done), "failed": fallen, "missing": 0}
        counts["diverged"] = len(values) - len(done) - fallen
        unused = dict.fromkeys(("mean", "sd", "interval", "bootstrap", "test_se", "seconds", "contrast"))
        rows.append(ArmSummary(arm=arm, values=done, **counts, **unused))
    return Analysis(metric, DECLARED[name_of(metric)], tuple(rows), (), "", ())


JUDGE = search_verdict.BestOf("C15", "trial ", "point ", "validation/loss", "Random beats grid")


def judged(chosen, worth, points, **more):
    """The verdict from losses f64 [S, arms], the grid's `points` arms first."""
    count = np.shape(worth)[1]
    names = [*(f"point {i}" for i in range(points)), *(f"trial {i}" for i in range(count - points))]
    tables = [dict(zip(names, np.array(table, object).T, strict=True)) for table in (worth, chosen)]
    by_test, by_validation = (
        analysis(f"{split}/loss", table, **more) for split, table in zip(("test", "validation"), tables, strict=True)
    )
    return JUDGE(by_test, {"validation/loss": by_validation}.__getitem__)


def study(random, *, advantage, points=4, trials=20, seeds=4, luck=1.0, persistent=0.0):
    """The verdict on losses (chosen, worth), arms' own levels of spread `persistent` and luck of runs of spread `luck`.

    The points are all alike, at the level that the best of as many random ones has on average, plus `advantage`.
    """
    levels = persistent * random.normal(size=trials)
    best = persistent * np.mean(np.min(random.normal(size=(20_000, points)), axis=1)) if persistent else 0.0
    levels = np.concatenate([np.full(points, best + advantage), levels]) + random.normal(size=(seeds, 1))
    return judged(levels + 0.01 * random.normal(size=levels.shape), levels + luck * random.normal(size=levels.shape), points)


BETWEEN = search_verdict.BetweenSearches("C15", "trial ", "grid ", "validation/loss", "Random beats grid")


def between(chosen, worth, searches=6, **more):
    """The verdict between searches, from losses [S, arms] of `searches` grids and then of as many random searches."""
    size = np.shape(worth)[1] // 2 // searches
    names = [f"grid {k + 1} point {i + 1}: " for k in range(searches) for i in range(size)]
    names += [f"trial {i + 1}: " for i in range(searches * size)]
    tables = [dict(zip(names, np.array(table, object).T, strict=True)) for table in (worth, chosen)]
    by_test, by_validation = (
        analysis(f"{split}/loss", table, **more) for split, table in zip(("test", "validation"), tables, strict=True)
    )
    return BETWEEN(by_test, {"validation/loss": by_validation}.__getitem__)


def test_a_search_is_one_observation_between_searches():
    """Grids find exp(0), and random search k finds exp(−1 + k / 10): the ratio is the mean difference of logarithms."""
    chosen = np.tile([[1.0, 2.0]], (3, 12))
    worth = np.exp([[*[0.0, 9.0] * 6, *(value for k in range(6) for value in (-1 + k / 10, 9.0))]] * 3)
    found = between(chosen, worth)
    assert found.effect == pytest.approx(np.exp(-0.75)) and found.n == 6 and found.verdict == "supported at small scale"
    assert found.interval[0] < found.effect < found.interval[1] < 1 and found.scale == "log"
    assert "the best of 2 “trial” arms / the best of 2 “grid” arms = 0.472" in found.sentence
    assert between(chosen, np.roll(worth, 12, axis=1)).verdict == "opposite"
    diverged = worth.astype(object)
    diverged[0, 12] = None
    known = chosen.astype(object)
    known[0, 12] = None  # a run that diverged is not chosen, and the other one is worth exp(9)
    assert between(known, diverged).effect > 0.5
    assert between(chosen, worth, failed=("trial 1: ",)).verdict == "not tested"
    with pytest.raises(UsageError, match=r"compares 6 arms 'trial ' with 3 grids\.\nExpected at least 6 grids"):
        between(chosen[:, :12], worth[:, :12], searches=3)


def test_a_planted_null_between_searches_is_decided_in_one_of_twenty_studies():
    """Levels differ by arm, as in a search: each grid has its own luck, and so has each random search."""
    random = np.random.default_rng(3)
    words = []
    for _ in range(300):
        worth = np.exp(random.normal(size=(1, 48)))
        words.append(between(worth * np.exp(0.1 * random.normal(size=worth.shape)), worth).verdict)
    # Two standard errors of 300 studies are 1.8 % at 2.5 %.
    assert words.count("supported at small scale") <= 0.043 * 300 and words.count("opposite") <= 0.043 * 300


def test_expected_best_is_the_mean_over_all_sets():
    random = np.random.default_rng(0)
    chosen, worth = random.normal(size=(2, 3, 7))
    for size in (1, 3, 7):
        sets = [list(one) for one in itertools.combinations(range(7), size)]
        by_hand = [np.mean([worth[seed, one][np.argmax(chosen[seed, one])] for one in sets]) for seed in range(3)]
        np.testing.assert_allclose(best_of_n.expected_best(chosen, worth, size), by_hand)


def test_resampled_advantages_come_from_searches_with_a_seed_each():
    """One search of two trials in a pool of four at one seed: the best of two draws with replacement."""
    chosen, worth = np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[10.0, 20.0, 30.0, 40.0]])
    found = best_of_n.resampled_advantage(chosen, worth, np.array([5.0]), 2, 40_000, np.random.default_rng(0))
    shares = [np.mean(found == value - 5.0) for value in worth[0]]
    np.testing.assert_allclose(shares, np.array([1, 3, 5, 7]) / 16, atol=0.01)
    assert best_of_n.independent_searches(108, 27, 4) == 2 and best_of_n.independent_searches(108, 27, 1) == 1


@pytest.mark.parametrize("spread", [{"luck": 1.0}, {"luck": 0.05, "persistent": 1.0}], ids=["luck", "levels"])
def test_a_planted_null_is_decided_in_at_most_one_of_twenty_studies(spread, monkeypatch):
    monkeypatch.setattr(search_verdict.statistics, "RESAMPLES", 499)
    random = np.random.default_rng(1)
    words = [study(random, advantage=0.0, **spread).verdict for _ in range(400)]
    # Two standard errors of 400 studies are 2.2 %.
    assert words.count("supported at small scale") <= 0.05 * 400 and words.count("opposite") <= 0.072 * 400


@pytest.mark.parametrize(("advantage", "word"), [(5.0, "supported at small scale"), (-5.0, "opposite")])
def test_a_planted_advantage_is_found(advantage, word):
    random = np.random.default_rng(2)
    assert [study(random, advantage=advantage).verdict for _ in range(10)] == [word] * 10


def test_the_best_is_chosen_by_one_number_and_judged_by_another():
    """The trial with the best validation loss has the worst test loss, and is what the search finds."""
    chosen = [[0.5, 0.6, 0.1, 0.2, 0.3, 0.4]] * 2
    worth = [[0.30, 0.10, 0.9, 0.2, 0.2, 0.2]] * 2
    found = judged(chosen, worth, 2)
    assert found.effect == pytest.approx((3 * 0.9 + 3 * 0.2) / 6 - 0.30) and found.n == 2
    low, high = found.interval
    assert low < found.effect < high and found.effect - low == pytest.approx(high - found.effect)
    assert "trial” arms − the best of 2 “point” arms = +0.25" in found.sentence
    assert "in test/loss, where less is better" in found.sentence and "chosen by validation/loss" in found.sentence


def test_a_run_that_diverged_is_not_chosen_and_one_that_failed_decides_nothing():
    worth = [[0.3, 0.3, 0.1, 0.1, 0.1, 0.1]] * 3
    with_gaps = [[0.3, 0.3, 0.1, 0.1, 0.1, None]] * 3
    assert judged(worth, worth, 2).verdict == "supported at small scale"
    assert judged(with_gaps, with_gaps, 2).effect == pytest.approx(-0.2)
    failed = judged(with_gaps, with_gaps, 2, failed=("trial 3",))
    assert failed.verdict == "not tested" and failed.effect is None and "1 arms have runs that failed" in failed.sentence
    known = {arm: [0.1] * 3 for arm in ("point 0", "point 1", *(f"trial {i}" for i in range(4)))}
    chosen = analysis("validation/loss", known)
    gap = dataclasses.replace(chosen.rows[0], values=chosen.rows[0].values[1:])
    chosen = dataclasses.replace(chosen, rows=(gap, *chosen.rows[1:]))
    assert JUDGE(analysis("test/loss", known), lambda _: chosen).verdict == "not tested", "the best cannot be chosen"


def test_what_the_verdict_lacks_is_an_error():
    table = {"point 0": [1.0], "trial 0": [1.0]}
    with pytest.raises(UsageError, match=r"compares 1 arms 'trial ' with 1 arms 'point '.\nExpected at least twice as many"):
        JUDGE(analysis("test/loss", table), lambda metric: analysis(metric, table))
    with pytest.raises(UsageError, match=r"chooses by validation/loss\. Give the analysis of that number too"):
        JUDGE(analysis("test/loss", table))


def test_a_study_is_concluded_with_both_numbers(monkeypatch, tmp_path):
    """Validation knows trial 1 as the best one; the test loss says what it is worth."""
    losses = {"baseline": (1.0, 1.0), "point 1": (0.5, 0.5), "trial 1": (0.1, 0.4), "trial 2": (0.2, 0.1)}
    arms = tuple(Arm(name, {}) for name in losses)
    study = Study("toy", "toy", {}, "grid_and_random", arms, (0, 1), {}, metric="test/loss", metrics=DECLARED)
    outcomes = [
        RunResult(name, seed, "DONE", "", "", {"validation/loss": chosen, "test/loss": worth})
        for name, (chosen, worth) in losses.items()
        for seed in study.seeds
    ]
    monkeypatch.setattr(commands.runs, "read_results", lambda *_: outcomes)
    monkeypatch.setattr(commands, "require_comparable", lambda *_, **__: None)
    said = commands.write_study_report(study, tmp_path, verdict=JUDGE)
    found = json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))
    assert found["effect"] == pytest.approx((0.4 + 0.1) / 2 - 0.5) and found["n"] == 2
    assert f"C15 {found['verdict']}:\n  Random beats grid: the best of 1 " in said
