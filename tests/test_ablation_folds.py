"""Studies over folds: the corrected variance, its error rate, and what the report says."""

import json
import pathlib

import numpy as np
import pytest
from scipy import stats

from cnnlab.ablation.analyse import folds, statistics
from cnnlab.ablation.analyse.analysis import analyse
from cnnlab.ablation.plan.study import Arm, RunResult, Study
from cnnlab.ablation.run import runs

VALUES = np.array([0.02, 0.05, 0.01, 0.04, 0.03, 0.06, 0.02, 0.03, 0.05, 0.01])


def analysed(differences: np.ndarray, count: int | None, **options):
    """The analysis of an arm that differs from the baseline by so much, seed by seed, over runs of so many folds."""
    arms = (Arm("baseline", {}), Arm("other", {}))
    study = Study("toy", "toy", {}, "grid", arms, tuple(range(len(differences))), {}, metric="validation/accuracy", **options)
    about = {"folds": count} if count else {}
    pairs = (("baseline", 0.5 + 0 * differences), ("other", 0.5 + differences))
    outcomes = [
        RunResult(arm, seed, "DONE", "", "", {"validation/accuracy": float(value)}, provenance=about)
        for arm, values in pairs
        for seed, value in enumerate(values)
    ]
    return analyse(study, outcomes)


def test_the_variance_is_that_of_nadeau_and_bengio():
    """t = mean / √((1 / n + n₂ / n₁) s²) with n − 1 degrees of freedom; n₂ / n₁ = 1 / (K − 1) for K folds."""
    n, count = len(VALUES), 5
    error = np.sqrt((1 / n + 1 / (count - 1)) * VALUES.var(ddof=1))
    p = 2 * stats.t.sf(VALUES.mean() / error, n - 1)
    overlap = folds.overlap_of(count)
    assert statistics.p_of_t(VALUES, overlap) == pytest.approx(p, rel=1e-12)
    interval, reach = statistics.student_interval(VALUES, 0.05, overlap), stats.t.ppf(0.975, n - 1) * error
    assert (interval.low, interval.high) == pytest.approx((VALUES.mean() - reach, VALUES.mean() + reach), rel=1e-12)
    assert statistics.p_of_t(VALUES) == pytest.approx(stats.ttest_1samp(VALUES, 0).pvalue) and folds.overlap_of(None) == 0
    assert statistics.p_of_t(np.zeros(3), overlap) == 1.0 and statistics.p_of_t(np.ones(3), overlap) is None


@pytest.mark.parametrize("n", [5, 10])
def test_folds_that_share_examples_err_as_often_as_they_say_and_the_naive_test_more_often(n: int):
    """Equal correlations of 1 / K, as Nadeau and Bengio estimate them; nothing differs."""
    draw, count, trials = np.random.default_rng(0), 5, 4000
    common, own = draw.normal(size=(trials, 1)), draw.normal(size=(trials, n))
    differences = np.sqrt(1 / count) * common + np.sqrt(1 - 1 / count) * own
    t = differences.mean(axis=1) / differences.std(axis=1, ddof=1)
    errors = {overlap: t / np.sqrt(1 / n + overlap) for overlap in (0.0, folds.overlap_of(count))}
    naive, corrected = (np.mean(2 * stats.t.sf(np.abs(found), n - 1) < 0.05) for found in errors.values())
    assert corrected == pytest.approx(0.05, abs=0.012) and naive > 0.12
    some = differences[:20]
    ours = [statistics.p_of_t(values, folds.overlap_of(count)) for values in some]
    assert ours == pytest.approx(2 * stats.t.sf(np.abs(errors[0.25][:20]), n - 1), rel=1e-9)


def test_a_study_over_folds_is_compared_by_the_corrected_variance_alone():
    whole, plain = analysed(VALUES, 5), analysed(VALUES, None)
    contrast, other = whole.rows[1].contrast, plain.rows[1].contrast
    assert contrast.p_t == pytest.approx(statistics.p_of_t(VALUES, 0.25), rel=1e-6) and contrast.p_t > other.p_t
    assert contrast.interval.low < other.interval.low and whole.rows[1].interval.low < plain.rows[1].interval.low
    assert contrast.p_signs is contrast.p_wilcoxon is contrast.bootstrap is whole.rows[1].bootstrap is None
    assert other.bootstrap is not None and whole.folds == 5 and plain.folds is None
    said = whole.warnings[0]
    assert (
        "fold s mod 5 of partition s // 5" in said and "(1/n + 1/4) s²" in said and "a run without --folds measures it" in said
    )
    assert not any("whole partitions" in line for line in whole.warnings)
    assert any("7 seeds are no whole partitions of 5 folds" in line for line in analysed(VALUES[:7], 5).warnings)
    assert not any("Cross-validation" in line for line in plain.warnings)
    same = analysed(np.full(5, 0.1), 5).rows[1].contrast
    assert same.verdict == "undecided" and same.p_t is None  # the same in all folds, which are not independent
    assert analysed(VALUES, 5, smallest_effect=0.01).smallest_effect is None


def test_runs_whose_seed_chooses_the_fold_are_known_by_their_knobs():
    knobs = {"data.folds": 5, "data.fold": "run", "data.split_seed": None}
    assert runs._folds(knobs) == runs._folds({**knobs, "data.split_seed": 3}) == {"folds": 5}
    assert runs._folds({**knobs, "data.fold": 0}) == runs._folds({**knobs, "data.folds": None}) == runs._folds({}) == {}


@pytest.mark.slow
def test_a_study_over_folds_measures_no_test_split(here, tmp_path: pathlib.Path):
    words = ("--experiment=linear_digits", "--vary=lr:0.05,0.0001", "--folds=2", "--seeds=2", "--steps=30", "--devices=1")
    code, out, err = here("ablate", *words)
    assert code == 0 and "compared by validation/accuracy" in out + err, err
    assert "Cross-validation: the run of seed s holds out fold s mod 2" in out
    results = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("runs/*/seed_*/result.json")]
    assert len(results) == 4 and all(not name.startswith("test/") for one in results for name in one["metrics"])
