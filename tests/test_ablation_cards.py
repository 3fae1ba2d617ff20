"""The catalogue of claims, its bibliography, the cards of claims and their figures; all from made-up records."""

import dataclasses
import itertools
import re
from xml.etree import ElementTree

import pytest

from cnnlab.ablation.analyse.summary import claim_parts
from cnnlab.ablation.analyse.words import in_words
from cnnlab.ablation.plan.claim import Claim
from cnnlab.ablation.plan.study import Card, Figure, Verdict
from cnnlab.ablation.report.bibliography import read_bibliography
from cnnlab.ablation.report.cards.canvas import DARK, HEIGHT, LIGHT, WIDTH, width_of
from cnnlab.ablation.report.cards.card import card, result_line
from cnnlab.ablation.report.cards.figure import draw
from cnnlab.ablation.report.cards.means import curve_point, numbers_of
from cnnlab.ablation.report.cards.numbers import conditions, effect, number, with_interval
from cnnlab.ablation.report.cards.record import Arm, Record
from cnnlab.ablation.report.cards.series import MOST_ROWS, lines_of, margin_of, rows_of
from cnnlab.home import ABOVE as ROOT
from cnnlab.metric import Metric
from experiments.claims.catalogue import CHAPTERS, CLAIMS

WORKS = read_bibliography((ROOT / "experiments" / "claims" / "references.bib").read_text(encoding="utf-8"))


def test_the_catalogue_has_every_claim_once_as_a_sentence():
    assert [claim.id for claim in CLAIMS] == [f"C{number}" for number in range(1, len(CLAIMS) + 1)]
    assert {claim.chapter for claim in CLAIMS} == set(CHAPTERS)
    assert not [claim.id for claim in CLAIMS if claim.sentence.endswith((".", "?")) or not claim.sentence[0].isupper()]
    assert len({claim.page for claim in CLAIMS}) == len(CLAIMS)


def test_the_catalogue_cites_all_works_of_the_bibliography_and_no_others():
    cited = {key for claim in CLAIMS for key in (*claim.sources, *claim.disputed_by)}
    assert cited == set(WORKS) and all(claim.sources for claim in CLAIMS)
    assert all({"author", "title"} <= set(work.fields) for work in WORKS.values())


@pytest.mark.parametrize(
    ("key", "cited"),
    [
        ("he2016", "He et al. 2016"),
        ("kingma2015", "Kingma and Ba 2015"),
        ("vandenoord2016", "van den Oord et al. 2016"),
        ("codella2019", "Codella et al. 2019"),
        ("cs231n", "Stanford University, CS231n"),
        ("montufar2014", "Montúfar et al. 2014"),
    ],
)
def test_a_work_is_cited_by_family_names_and_year(key: str, cited: str):
    assert WORKS[key].cited == cited


LOSS, SHARE = Metric("loss", unit="nats", higher_is_better=False), Metric("accuracy", unit="share", higher_is_better=True)


def made_up(arms: dict[str, tuple[dict[str, str], list[float]]], metric: Metric = LOSS, **given) -> Record:
    """A record of arms {name: (knobs, a number for each seed)}; the first is the baseline."""
    name = f"test/{metric.name}"
    numbers = {arm: numbers_of(dict(enumerate(values))) for arm, (_, values) in arms.items()}
    part = Verdict("C7", "supported at small scale", 1.0, (0.5, 1.5), 0.01, 3, "It holds.", says="It holds", comparison="a − b")
    fields = {
        "name": "c07_toy",
        "verb": "ablate",
        "question": "Does it hold?",
        "experiment": "c07_toy",
        "command": "python launch.py ablate --experiment=c07_toy",
        "verdict": dataclasses.replace(part, parts=(part,), scope="a toy"),
        "metric": name,
        "metrics": {name: metric},
        "arms": tuple(Arm(arm, {name: numbers[arm]}, knobs, planned=3) for arm, (knobs, _) in arms.items()),
        "seeds": (0, 1, 2),
        "parts": (),
        "declaration": {"digest": "ab" * 32, "commit": "c" * 40, "time": 0.0},
        "commits": ("cccccccccccc",),
        "finished": 1.0,
        "baseline": "lr=0.1",
    }
    return Record(**{**fields, **given})


def texts_of(picture: str) -> list[str]:
    """The texts of a figure, after a check that all are large enough and lie inside of it."""
    found = []
    for node in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text"):
        size, x, y, text = float(node.get("font-size")), float(node.get("x")), float(node.get("y")), node.text or ""
        wide = width_of(text, size, bold=node.get("font-weight") is not None)
        left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[node.get("text-anchor")]
        assert size >= 14 and left >= 0 and left + wide <= WIDTH and size <= y <= HEIGHT, text
        found.append(text)
    return found


ROWS = {"baseline": ({"lr": "0.1"}, [0.5, 0.6, 0.7]), "lr=0.2": ({"lr": "0.2"}, [0.1, 0.2, 0.3])}
LONG = "a comparison of networks whose long name has to be wrapped since no slide has room for it"
EXACT = {"linear": ({}, [0.0, 1e-15, 2e-15]), LONG: ({}, [0.5, 0.5, 0.6])}
BOUNDS = ({"test": "identity", "arm": "linear", "expected": 0.0}, {"test": "at_least", "arm": LONG, "bound": 0.01})
MARGIN = ({"test": "bounded", "arm": "lr=0.2", "against": "baseline", "margin": 0.3},)
GRID = {
    f"labels={labels}, start={start}": ({"labels": labels, "start": start}, [0.1 * i + 0.3 * j, 0.1 * i + 0.3 * j + 0.05])
    for i, labels in enumerate(("1", "10", "1,000"))
    for j, start in enumerate(("scratch", "fine-tuned"))
}
CURVES = {
    name: tuple((float(x), 10.0 ** (-x * k), 10.0 ** (-x * k - 1), 10.0 ** (1 - x * k)) for x in range(9))
    for k, name in enumerate("abcd")
}
FIGURES = {
    "rows": (made_up(ROWS), {"baseline: lr=0.1", "lr=0.2", "test loss, nats (lower is better); dashed: the baseline"}),
    "rows of shares": (made_up(ROWS, SHARE, parts=MARGIN), {"60 [35, 85]", "20 [−5, 45]"}),
    "exact": (made_up(EXACT, parts=BOUNDS, verb="measure", baseline=""), {"linear", "0", "1e−15 [−1.5e−15, 3.5e−15]"}),
    "one seed": (made_up({"k = 1": ({}, [309.0]), "k = 3": ({}, [295.0])}, seeds=(0,)), {"309", "295"}),
    "lines": (made_up(GRID, SHARE, card=Card(figure=Figure(x="labels", lines="start", log_x=True))), {"1", "10", "scratch"}),
    "words": (made_up(GRID, SHARE, card=Card(figure=Figure(x="start", lines="labels"))), {"scratch", "1,000", "start"}),
    "curves": (
        made_up(ROWS, verb="measure", curves=CURVES, card=Card(figure=Figure(x="lag, steps", y="gradient", log_y=True))),
        {"lag, steps", "gradient, logarithmic", *"abcd"},
    ),
}


@pytest.mark.parametrize("case", FIGURES)
def test_a_figure_can_be_read_on_a_slide_in_light_and_dark(case: str):
    record, expected = FIGURES[case]
    light, dark = (draw(record, theme, title="It holds", subtitle="C7, exact.") for theme in (LIGHT, DARK))
    texts = texts_of(light)
    assert {"It holds", "C7, exact.", "c07_toy", *expected} <= set(texts) and "nan" not in light
    assert texts_of(dark) == texts and LIGHT.background in light and DARK.background in dark
    shown = any(text.endswith((" over 2 seeds.", " over 3 seeds.")) for text in texts)
    assert shown == (len(record.seeds) > 1)


@pytest.mark.parametrize(
    ("parts", "band"),
    [
        (({"test": "bounded", "expected": "not worse", "margin": 0.3},), (0.0, 0.3)),
        (({"test": "bounded", "expected": "not better", "margin": 0.3},), (-0.3, 0.0)),
        (({"test": "equivalent", "margin": 0.3},), (-0.3, 0.3)),
        (2 * ({"test": "equivalent", "margin": 0.3},), (-0.3, 0.3)),
        (({"test": "equivalent", "margin": 0.3}, {"test": "equivalent", "margin": 0.1}), None),
        (({"test": "equivalent", "margin": 0.3, "scale": "log"},), None),
    ],
)
def test_the_band_of_a_figure_is_that_of_the_one_margin_on_its_own_side(parts: tuple[dict, ...], band: tuple | None):
    assert margin_of(made_up(ROWS, parts=parts)) == band, "less is better"


def test_a_figure_counts_the_numbers_that_it_draws():
    rows = {"baseline": ({"lr": "0.1"}, [0.5, 0.6, 0.7]), "lr=0.2": ({"lr": "0.2"}, [0.1, 0.2])}
    for arms, said in ((ROWS, "95 % interval over 3 seeds."), (rows, "95 % interval over 2 to 3 seeds.")):
        assert said in draw(made_up(arms), LIGHT, title="A claim")
    by_lr = Card(figure=Figure(x="lr"))
    assert "Mean and range over 2 to 3 seeds." in draw(made_up(rows, card=by_lr), LIGHT, title="A claim")


def test_the_numbers_of_a_figure_lie_inside_of_it():
    for record, _ in FIGURES.values():
        picture = draw(record, LIGHT, title="It holds")
        for path in re.findall(r'd="([^"]*)"', picture):
            places = [float(number) for number in re.findall(r"(?<=[ML ])-?[\d.]+", path.partition("l")[0])]
            assert places and len(places) % 2 == 0, (record.name, path)
            inside = all(0 <= x <= WIDTH for x in places[::2]) and all(0 <= y <= HEIGHT for y in places[1::2])
            assert inside, (record.name, path)


def test_labels_of_lines_that_end_together_do_not_cover_each_other():
    lines = {name: tuple((float(x), 1.0, 1.0, 1.0) for x in range(3)) for name in ("one", "two", "three", "four")}
    record = made_up(ROWS, verb="measure", curves=lines, card=Card(figure=Figure(x="x", y="y")))
    nodes = ElementTree.fromstring(draw(record, LIGHT, title="t")).iter("{http://www.w3.org/2000/svg}text")
    heights = sorted(float(node.get("y")) for node in nodes if node.text in lines)
    assert len(heights) == 4 and min(b - a for a, b in itertools.pairwise(heights)) >= 15


def test_a_figure_of_many_arms_shows_those_that_the_test_names():
    arms = {f"trial {number}": ({}, [float(number)] * 2) for number in range(40)}
    record = made_up(arms, parts=({"test": "contrast", "arm": "trial 33"},), baseline="")
    rows, left_out = rows_of(record)
    assert len(rows) == MOST_ROWS and left_out == 26 and {"trial 0", "trial 33"} <= {row.label for row in rows}
    assert "26 more arms are in the table." in draw(record, LIGHT, title="t")


def test_a_figure_names_the_arms_of_which_every_run_diverged():
    record = made_up(ROWS)
    lost = Arm("lr=100", {}, planned=3, diverged=3)
    picture = draw(dataclasses.replace(record, arms=(*record.arms, lost)), LIGHT, title="t")
    assert "Mean and 95 % interval over 3 seeds. No number: lr=100 (diverged)." in texts_of(picture)
    assert "No number" not in draw(record, LIGHT, title="t")


def test_a_line_has_the_levels_of_its_knob_and_of_others_that_vary():
    arms = {
        f"{x} {line} {more}": ({"x": x, "line": line, "model.depth": more}, [1.0])
        for x in ("5 epochs", "1 epochs")
        for line in ("a", "b")
        for more in ("2", "4")
    }
    lines, names = lines_of(made_up(arms, card=Card(figure=Figure(x="x", lines="line"))))
    assert [line.label for line in lines] == ["a, depth=2", "a, depth=4", "b, depth=2", "b, depth=4"] and names == []
    assert [point[0] for point in lines[0].points] == [1.0, 5.0]


def test_a_line_goes_over_what_its_arms_cost():
    arms = {f"{kind} {width}": ({"kind": kind, "width": width}, [float(width)]) for kind in ("a", "b") for width in ("1", "2")}
    record = made_up(arms, card=Card(figure=Figure(x="macs", lines="kind", log_x=True)))
    costs = (300, 100, 200, None)
    arms_with_costs = [dataclasses.replace(arm, macs=cost) for arm, cost in zip(record.arms, costs, strict=True)]
    record = dataclasses.replace(record, arms=tuple(arms_with_costs))
    lines, names = lines_of(record)
    assert [(line.label, [point[:2] for point in line.points]) for line in lines] == [
        ("a", [(100.0, 2.0), (300.0, 1.0)]),
        ("b", [(200.0, 1.0)]),
    ]
    assert names == [] and "multiply-accumulates, logarithmic" in texts_of(draw(record, LIGHT, title="t"))


def test_a_search_is_a_cloud_and_means_on_a_logarithmic_axis_are_geometric():
    arms = {
        f"{'trial' if number % 2 else 'grid'} {number}: lr={number}": ({"lr": str(number + 1)}, [1.0, 100.0])
        for number in range(40)
    }
    record = made_up(arms, card=Card(figure=Figure(x="lr", log_x=True, log_y=True)))
    assert len(lines_of(record)[0]) == 1, "one knob varies: all arms lie on one line"
    (point, *_), geometric = lines_of(record)[0][0].points, pytest.approx(10.0)
    assert point[1] == geometric and point[2:] == pytest.approx((1.0, 100.0)), "of few seeds the range"
    assert "Geometric mean and range over 2 seeds." in draw(record, LIGHT, title="t")
    assert curve_point([1.0, 100.0] * 3, log=True) == pytest.approx((10.0, 0.7088, 141.1), rel=1e-3)
    other = tuple(dataclasses.replace(arm, knobs={**arm.knobs, "decay": str(i)}) for i, arm in enumerate(record.arms))
    clouds, _ = lines_of(dataclasses.replace(record, arms=other))
    assert [(line.label, len(line.points), line.is_joined) for line in clouds] == [("grids", 20, False), ("trials", 20, False)]
    texts = texts_of(draw(dataclasses.replace(record, arms=other), DARK, title="t"))
    assert {"grids", "trials"} <= set(texts)


@pytest.mark.parametrize(
    ("value", "metric", "decimals", "text"),
    [
        (0.98614, SHARE, 2, "98.61"),
        (61706.0, LOSS, None, "61,706"),
        (-2.2e-16, LOSS, 3, "−2.2e−16"),
        (13.8663, LOSS, None, "13.87"),
        (float("nan"), LOSS, None, "–"),
        (None, LOSS, None, "–"),
    ],
)
def test_a_number_is_shown_with_the_digits_that_it_has(value: float | None, metric: Metric, decimals: int | None, text: str):
    assert number(value, metric, decimals) == text


def test_numbers_that_are_lower_bounds_have_a_sign():
    steps = Metric("steps_to_accuracy_0.75", "steps", higher_is_better=False)
    found = numbers_of({0: 600.0, 1: 600.0})
    assert with_interval(found, steps) == "600" and with_interval(dataclasses.replace(found, lower_bounds=2), steps) == "≥ 600"


def test_a_ratio_to_numbers_that_are_lower_bounds_is_one_too():
    found = made_up(ROWS)
    baseline, arm = found.arms
    bounds = {found.metric: dataclasses.replace(arm.numbers[found.metric], lower_bounds=1)}
    found = dataclasses.replace(found, arms=(baseline, dataclasses.replace(arm, numbers=bounds)))
    for comparison, shown in (("lr=0.2 / baseline", "ratio ≥ 1"), ("baseline / lr=0.2", "ratio 1")):
        part = Verdict("C7", HOLDS, 1.0, (0.5, 1.5), 0.01, 3, "It.", comparison=comparison, scale="log")
        assert effect(found, part) == (shown, "[0.5, 1.5]")


def part_of(word: str, says: str, **given) -> Verdict:
    """A part of a claim."""
    return Verdict("C7", word, 1.0, (0.5, 1.5), 0.01, 3, f"{says}.", says=says, comparison="a − b", **given)


HOLDS, EFFECT = "supported at small scale", "+1.00 nats [+0.50, +1.50], p = 0.010, n = 3"
RESULTS = {
    "all hold": ((HOLDS, HOLDS), f"Both parts hold. One: {EFFECT}."),
    "one holds": ((HOLDS, "not shown"), f"1 of 2 parts hold. Not shown: Two: {EFFECT}."),
    "none holds": (("not shown", "not shown"), f"0 of 2 parts hold. One: {EFFECT}."),
}


@pytest.mark.parametrize("case", RESULTS)
def test_a_result_is_one_line(case: str):
    words, text = RESULTS[case]
    parts = tuple(part_of(word, says) for word, says in zip(words, ("One", "Two"), strict=True))
    whole = dataclasses.replace(parts[-1], says="", comparison="a − b", parts=parts)
    if case == "one holds":
        parts = (dataclasses.replace(parts[0], comparison="c − d"), parts[1])
        whole = dataclasses.replace(whole, verdict="supported in part", parts=parts)
    assert result_line(made_up(ROWS, verdict=whole)) == text


def test_a_part_that_ranks_decide_shows_no_difference_of_the_survivors():
    ranked = dataclasses.replace(part_of(HOLDS, "One"), effect=None, interval=None)
    record = made_up(ROWS, verdict=dataclasses.replace(ranked, claim=CLAIMS[0].id))
    assert result_line(record) == "One: by ranks of all runs, those that diverged the worst, p = 0.010, n = 3."
    text = card(CLAIMS[0], [record], [], WORKS, {})
    assert "; by ranks of all runs, those that diverged the worst | – | – | 0.010 | 3 | supported at small scale |" in text


def test_an_effect_that_is_decided_and_too_small_is_not_said_not_to_be_there():
    claim, part = CLAIMS[0], part_of("absent", "One")
    for p, shown in ((0.01, True), (0.2, False)):
        record = made_up(ROWS, verdict=dataclasses.replace(part, p=p, claim=claim.id))
        text = card(claim, [record], [], WORKS, {})
        assert ("| absent (smaller than of interest) |" in text) == shown and ("| absent |" in text) != shown
        word = "absent (smaller than of interest)" if shown else "absent"
        whole = dataclasses.replace(part, p=0.01, parts=(dataclasses.replace(part, p=0.01), dataclasses.replace(part, p=p)))
        assert in_words(whole) == word and claim_parts(whole) == ["[absent (smaller than of interest)] One.", f"[{word}] One."]


def test_a_result_of_an_exact_claim_and_of_one_that_is_not_tested():
    exact = part_of("exact", "It is linear", exact=True)
    exact = dataclasses.replace(exact, effect=1e-15, interval=None, p=None, comparison="linear − 0")
    said = "It is linear: within 1e−15 nats in all 3 seeds."
    assert result_line(made_up(ROWS, verdict=dataclasses.replace(exact, parts=(exact,)))) == said
    bound = dataclasses.replace(exact, comparison="rank ≤ 3", effect=2.0, n=1)
    said = "It is linear: at most 2 nats (stated: at most 3)."
    assert result_line(made_up(ROWS, verdict=dataclasses.replace(bound, parts=(bound,)))) == said
    shares = made_up(ROWS, SHARE, parts=({"says": "It is linear", "role": "decides", "bound": -1e-6},))
    small = dataclasses.replace(bound, comparison="share ≥ −0.00 points", effect=0.004)
    said = "It is linear: at least 0.4 % (stated: at least −0.0001 %)."
    assert result_line(dataclasses.replace(shares, verdict=dataclasses.replace(small, parts=(small,)))) == said
    control = part_of("not shown", "The control fails", role="required")
    whole = dataclasses.replace(exact, verdict="not tested", parts=(control, exact))
    found = made_up(ROWS, verdict=whole)
    assert result_line(found) == "Not met: The control fails."
    text = card(Claim("C7", "It is linear", "Training", "exact"), [found], [], {}, {})
    assert "| required | The control fails | a − b in" in text and "| 0.010 | 3 | not met |" in text
    assert "- Not met: The control fails." in text and "- Not shown" not in text


CONDITIONS = {
    "margin 0.3 points (a quarter of the gap)": {"test": "bounded", "margin": 0.003, "source": "a quarter of the gap"},
    "margin a factor of 2": {"test": "bounded", "margin": 0.6931471805599453, "scale": "log"},
    "smallest effect of interest 0.5 points; sign flips decide": {"smallest": 0.005, "decided_by": "signs"},
    "tolerance 1e−12 points": {"test": "identity", "tolerance": 1e-14},
    "a success is 99 % or better; stated: more than 50 %": {"level": 0.99, "more_than": 0.5},
    "": {"test": "contrast", "smallest": None, "source": "no margin"},
}


@pytest.mark.parametrize("text", CONDITIONS)
def test_what_a_part_declares_beside_its_comparison_is_said(text: str):
    declared = {"says": "It holds", "role": "decides", **CONDITIONS[text]}
    record = made_up(ROWS, SHARE, parts=({"says": "Another", "margin": 9.0}, declared))
    assert conditions(record, record.verdict.parts[0]) == text


def test_a_rate_is_a_share_of_the_runs_and_a_difference_of_rates_has_a_sign():
    rate = part_of("supported at small scale", "It does", scale="rate")
    rate = dataclasses.replace(rate, effect=0.62, interval=(0.5, 0.73))
    assert effect(made_up(ROWS), rate) == ("62 % of the runs", "[50, 73] %")
    difference = dataclasses.replace(rate, effect=-0.4, interval=None, comparison="a − b")
    assert effect(made_up(ROWS), difference) == ("−40 % of the runs", "–")
