"""A report says what the analysis says, in one file that needs nothing else, and shows it in a browser without complaint."""

import base64
import csv
import dataclasses
import io
import json
import math
import os
import pathlib
import re
import select
import shutil
import subprocess
import sys
import time
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from cnnlab.ablation.analyse.results import Analysis, ArmSummary, Contrast, Effect, Interval
from cnnlab.ablation.plan.study import Arm, RunResult, Study, Verdict
from cnnlab.ablation.report import svg
from cnnlab.ablation.report.csv_tables import arms_csv, runs_csv
from cnnlab.ablation.report.findings import arm_findings, findings_line
from cnnlab.ablation.report.plan_text import describe_study
from cnnlab.ablation.report.write import tensorboard_hparams, terminal_table, write_report
from cnnlab.tasks.classification_metrics import METRICS

ROOT = pathlib.Path(__file__).resolve().parents[1]
ACCURACY, LOSS, _ = METRICS
DECLARED = {metric.name: metric for metric in METRICS}
ODD = "norm=<b>&_%, width=2"
"""A name that is markup in HTML, Markdown and LaTeX."""


def contrast(differences: list[float], verdict: str, p: float, *, control: bool = False) -> Contrast:
    """Means and sds from the differences; the tests' p as they are given."""
    mean, sd = float(np.mean(differences)), float(np.std(differences, ddof=1)) if len(differences) > 1 else math.nan
    half = 4.303 * sd / math.sqrt(len(differences))
    around = Interval(mean - half, mean + half) if len(differences) > 1 else None
    return Contrast(
        n=len(differences),
        difference=mean,
        interval=around,
        bootstrap=around if len(differences) > 2 else None,
        p_t=p,
        p_signs=0.25,
        p_wilcoxon=0.25,
        p_holm=None if control else min(1.0, 3 * p),
        effect_size=mean / sd,
        seeds_needed=14 if verdict == "undecided" else None,
        mcnemar_p=0.031,
        verdict=verdict,
    )


def curve(final: float, seed: int, epochs: int = 20) -> tuple[dict[str, float | None], ...]:
    """A run that learns, with a little noise of its own."""
    noise = np.random.default_rng(seed)
    records: list[dict[str, float | None]] = []
    for epoch in range(1, epochs + 1):
        wobble = float(noise.normal(0, 0.004))
        at = {"step": 25 * epoch, "epoch": float(epoch)}
        records.append({**at, "train/loss": 2.2 * math.exp(-epoch / 4) + 0.02 + abs(wobble)})
        records.append(
            {**at, "validation/accuracy": min(1.0, final - 0.8 * math.exp(-epoch / 2) + wobble), "validation/loss": 1.0}
        )
    return tuple(records)


PROVENANCE = {
    "commit": "4104ebc0d2f5",
    "uncommitted_changes": True,
    "steps": 500,
    "data": {"name": "digits", "fingerprint": "9f2c1a77", "sizes": {"train": 1149, "validation": 288, "test": 360}},
    "versions": {"python": "3.11.2", "jax": "0.9.1", "flax": "0.12.4", "numpy": "2.4.6"},
    "devices": ["cpu: cpu", "cpu: cpu"],
    "host": "workbench",
    "platform": "Linux-6.1-x86_64",
}


def outcome(arm: str, seed: int, value: float | None, state: str = "DONE", message: str = "", steps: int = 20) -> RunResult:
    done = state == "DONE"
    return RunResult(
        arm=arm,
        seed=seed,
        state=state,
        folder=f"runs/lenet5_digits-{zlib.crc32(arm.encode()):08x}/seed_{seed}",
        command=f"python launch.py --experiment=lenet5_digits --knobs='{arm}' --seed={seed}",
        metrics={"test/accuracy": value, "test/loss": 0.08} if done and value is not None else {},
        curve=() if state == "MISSING" else curve(value if value is not None else 0.5, seed, steps),
        wall_seconds=12.5 + seed if done else None,
        step_seconds=0.025 if done else None,
        message=message,
        provenance={} if state == "MISSING" else PROVENANCE,
    )


VALUES = {
    "baseline": [0.9861, 0.9833, 0.9889],
    "norm=none": [0.9722, 0.9667, 0.9750],
    ODD: [0.9889, 0.9917],
    "activation=tanh": [0.9833, 0.9889],
    "control: shuffled labels": [0.1028, 0.0944, 0.1339],
}


def study() -> tuple[Study, list[RunResult], Analysis]:
    """Four arms with three seeds and a control; one cell diverged, one is missing."""
    names = list(VALUES)
    sizes = dict(
        zip(
            names,
            [(61_706, 416_520), (61_500, 410_000), (243_812, 1_620_000), (61_706, 416_520), (61_706, 416_520)],
            strict=True,
        )
    )
    arms = tuple(
        Arm(
            name,
            {"norm": "none"} if "norm" in name else {},
            control=name.startswith("control"),
            parameters=sizes[name][0],
            macs=sizes[name][1],
        )
        for name in names
    )
    plan = Study(
        name="What normalisation buys <LeNet-5>",
        experiment="lenet5_digits",
        knobs={"epochs": "20", "optimizer": "momentum"},
        design="one_factor_at_a_time",
        arms=arms,
        seeds=(0, 1, 2),
        factors={"norm": ("batch", "none"), "activation": ("relu", "tanh")},
        question="Does batch normalisation help a network this small, and is it worth its time?",
        claim="C7",
        flags=("--eval_every=1 epoch",),
        metrics=DECLARED,
    )
    outcomes = [outcome(name, seed, value) for name, values in VALUES.items() for seed, value in enumerate(values)]
    outcomes.append(
        outcome(ODD, 2, None, "DIVERGED", "train/loss is not finite at step 75: training diverged.\nTry <a smaller> --lr.", 3)
    )
    outcomes.append(outcome("activation=tanh", 2, None, "MISSING"))
    judged = {
        "norm=none": ("worse", 0.0004),
        ODD: ("better", 0.012),
        "activation=tanh": ("undecided", 0.7),
        names[-1]: ("worse", 1e-6),
    }
    rows = []
    for name, values in VALUES.items():
        mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
        half = 4.303 * sd / math.sqrt(len(values))
        paired = [a - b for a, b in zip(values, VALUES["baseline"], strict=False)]
        found = contrast(paired, *judged[name], control=name == names[-1]) if name in judged else None
        lost = {ODD: (1, 0), "activation=tanh": (0, 1)}.get(name, (0, 0))
        around = Interval(mean - half, mean + half)
        rows.append(
            ArmSummary(
                name,
                3,
                len(values),
                lost[0],
                0,
                lost[1],
                tuple(enumerate(values)),
                mean,
                sd,
                around,
                None,
                0.006,
                13.5 + len(name) / 9,
                found,
            )
        )
    effects = (
        Effect(("norm",), ("none",), -0.0139, Interval(-0.0180, -0.0098), 0.0004, 0.0012, "worse"),
        Effect(("norm", "activation"), ("none", "tanh"), 0.002, Interval(-0.006, 0.010), 0.4, 0.8, "undecided"),
    )
    sentence = f"norm=none is worse than the baseline by 1.39 points; {ODD} is better; activation=tanh is undecided."
    warnings = (f"{ODD}: 1 of 3 runs diverged.", "activation=tanh: 1 of 3 runs is missing.")
    return plan, outcomes, Analysis("test/accuracy", ACCURACY, tuple(rows), effects, sentence, warnings)


class Browser:
    """A headless Chromium that is spoken to through a pipe (the DevTools protocol), so that no library is needed."""

    def __init__(self, program: str, profile: pathlib.Path):
        to_browser, to_us = os.pipe(), os.pipe()
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
        ]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--disable-background-networking", "about:blank"]
        places = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
        )
        read, write = to_browser[0], to_us[1]  # the browser reads from 3 and writes to 4
        self.process = subprocess.Popen(
            [sys.executable, "-c", places, str(read), str(write), program, *flags],
            pass_fds=(read, write),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser[0])
        os.close(to_us[1])
        self.out, self.into, self.buffer, self.number = to_browser[1], to_us[0], b"", 0
        self.events: list[dict] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session: str | None = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    session: str | None = None

    def ask(self, method: str, **parameters: object) -> dict:
        """Sends a command and waits for its answer; what happens meanwhile is kept in `events`."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _read(self, seconds: float = 60) -> dict:
        while b"\0" not in self.buffer:
            assert select.select([self.into], [], [], seconds)[0], "the browser does not answer"
            part = os.read(self.into, 1 << 20)
            assert part, "the browser ended"
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def show(self, path: pathlib.Path, *, width: int, theme: str = "light") -> None:
        """Loads a file in a window of this width."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.events.clear()
        self.ask("Page.navigate", url=path.as_uri())
        until = time.monotonic() + 60
        while self.run("document.readyState") != "complete" or not any(
            e.get("method") == "Page.loadEventFired" for e in self.events
        ):
            assert time.monotonic() < until, "the page does not load"
            time.sleep(0.05)

    def run(self, script: str) -> object:
        """The value of a JavaScript expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """A click of the mouse in the middle of an element."""
        middle = "r => [r.x + r.width / 2, r.y + r.height / 2]"
        find = f"(e => (e.scrollIntoView({{block: 'center'}}), ({middle})(e.getBoundingClientRect())))"
        x, y = self.run(f"{find}(document.querySelector({json.dumps(selector)}))")  # type: ignore[misc]
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """A key, as Enter or Tab."""
        code = {"Enter": 13, "Tab": 9}[key]
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def screenshot(self, path: pathlib.Path) -> None:
        """The whole page as PNG."""
        content = self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(content))

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, exceptions, and all that was fetched from elsewhere."""
        self.run("1")
        texts = []
        for event in self.events:
            method, content = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown" or (
                method == "Runtime.consoleAPICalled" and content["type"] in ("error", "warning")
            ):
                texts.append(json.dumps(content))
            if method == "Log.entryAdded" and content["entry"]["level"] in ("error", "warning"):
                texts.append(content["entry"]["text"])
            if method == "Network.requestWillBeSent" and not content["request"]["url"].startswith(("file:", "data:", "about:")):
                texts.append(content["request"]["url"])
        return texts

    def close(self) -> None:
        self.session = None
        self.ask("Browser.close")
        os.close(self.out)
        os.close(self.into)
        self.process.wait(30)


def random_study(count: int = 40) -> tuple[Study, list[RunResult], Analysis]:
    """Many arms of a random search, in which the rate matters most and the activation a little."""
    noise = np.random.default_rng(0)
    rates = ["0.1"] + [f"{10 ** noise.uniform(-4, 0):.3g}" for _ in range(count - 1)]
    kinds = ["relu"] + [str(noise.choice(["relu", "tanh", "gelu"])) for _ in range(count - 1)]
    widths = ["1"] + [str(noise.integers(1, 9)) for _ in range(count - 1)]
    arms, rows, outcomes = [], [], []
    for i, (rate, kind, width) in enumerate(zip(rates, kinds, widths, strict=True)):
        name = "baseline" if i == 0 else f"lr={rate}, activation={kind}, width={width}"
        size = 60_000 * int(width)
        knobs = {} if i == 0 else {"optimizer.lr": rate, "model.activation": kind, "model.width": width}
        arms.append(Arm(name, knobs, parameters=size, macs=7 * size))
        quality = 0.985 - 0.02 * (math.log10(float(rate)) + 1.5) ** 2 - 0.01 * (kind == "tanh") + 0.002 * int(width)
        values = [quality - 0.02 + noise.normal(0, 0.002) for _ in range(2)]
        outcomes += [outcome(name, seed, value) for seed, value in enumerate(values)]
        mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
        difference = mean - rows[0].mean if rows else 0.0
        word = "undecided" if abs(difference) < 0.01 else "better" if difference > 0 else "worse"
        found = contrast([difference - 0.003, difference + 0.002], word, 0.001) if i else None
        around = Interval(mean - 9 * sd, mean + 9 * sd)
        rows.append(
            ArmSummary(name, 2, 2, 0, 0, 0, tuple(enumerate(values)), mean, sd, around, None, None, 10.0 * int(width), found)
        )
    levels = {"optimizer.lr": tuple(rates), "model.activation": ("relu", "tanh", "gelu"), "model.width": tuple(widths)}
    plan = Study("search", "lenet5_digits", {}, "random", tuple(arms), (0, 1), levels)
    return plan, outcomes, Analysis("test/accuracy", ACCURACY, tuple(rows), (), "Many arms.", ())


class Page(HTMLParser):
    """The tags of a page, checked to be closed, and its text."""

    EMPTY = frozenset({"meta", "link", "br"})

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)


def test_report_is_one_file_that_needs_nothing_else(tmp_path: pathlib.Path):
    paths = write_report(tmp_path / "new", *study())
    assert [path.name for path in paths] == ["report.html", "report.md", "arms.csv", "arms.tex", "runs.csv"]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"report.json", *(path.name for path in paths)}
    text = paths[0].read_text(encoding="utf-8")
    assert not re.search(r"(?i)https?:|url\(|@import|<img|<iframe", text)
    page = Page(text)
    fetched = [attributes.get("src") or attributes.get("href") for _, attributes in page.tags]
    assert {place for place in fetched if place} == {"data:,"}


def test_the_verdict_of_a_claim_leads_every_form_of_the_report(tmp_path: pathlib.Path):
    plan, outcomes, analysis = study()
    said = {"supported": "A <b> helps (p = 0.01).", "undecided": "B helps."}
    parts = tuple(Verdict("C9", word, 0.1, (0.0, 0.2), 0.1, 3, sentence) for word, sentence in said.items())
    analysis = dataclasses.replace(analysis, verdict=Verdict("C9", "undecided", 0.1, (0.0, 0.2), 0.1, 3, "", parts=parts))
    html_page, markdown, *_ = (path.read_text(encoding="utf-8") for path in write_report(tmp_path, plan, outcomes, analysis))
    assert Page(html_page).words.count("C9 undecided.") == 1
    first, second = (html_page.index(text) for text in ("<li>[supported] A &lt;b&gt; helps", "<li>[undecided] B helps.</li>"))
    assert first < second < html_page.index(analysis.sentence[:20])
    assert "**C9 undecided.**" in markdown and markdown.index("B helps") < markdown.index("## Study design")
    assert "\nC9 undecided:\n  [supported] A <b> helps (p = 0.01).\n  [undecided] B helps." in terminal_table(plan, analysis)


def test_report_says_why_an_arm_is_undecided_and_the_interval_with_the_test_sets_sampling(tmp_path: pathlib.Path):
    plan, outcomes, analysis = study()
    at = next(i for i, row in enumerate(analysis.rows) if row.contrast and row.contrast.verdict == "undecided")
    found = dataclasses.replace(analysis.rows[at].contrast, disagree=True, seeds_needed=14, two_way=Interval(-0.0123, 0.0456))
    rows = tuple(dataclasses.replace(row, contrast=found) if i == at else row for i, row in enumerate(analysis.rows))
    analysis = dataclasses.replace(analysis, rows=rows, smallest_effect=0.005)
    html_page, markdown, table, *_ = (path.read_text() for path in write_report(tmp_path, plan, outcomes, analysis))
    assert f"t and sign flips disagree: p = {found.p_t:.2g} and 0.25; ≈ 14 seeds for 0.50 points" in Page(html_page).words
    assert "[−1.23, +4.56]" in html_page and "Smallest effect of interest: 0.50 points" in markdown
    line = list(csv.DictReader(table.splitlines()))[at]
    assert (line["seeds_needed"], line["difference_two_way_low"], line["difference_two_way_high"]) == (
        "14",
        "-0.0123",
        "0.0456",
    )


def test_report_escapes_names_and_messages_everywhere(tmp_path: pathlib.Path):
    html_page, markdown, _, latex, _ = (path.read_text(encoding="utf-8") for path in write_report(tmp_path, *study()))
    page = Page(html_page)
    assert "<b>&" not in html_page and "<b>&amp;" not in html_page
    assert ODD in page.words and "What normalisation buys <LeNet-5>" in page.words
    assert "Try <a smaller> --lr." in html_page.replace("&lt;", "<").replace("&gt;", ">")
    assert "norm=&lt;b&gt;&amp;\\_%, width=2" in markdown and "<b>" not in markdown
    assert r"norm=\textless{}b\textgreater{}\&\_\%, width=2" in latex and "<b>" not in latex


def test_tables_say_the_numbers_of_the_analysis(tmp_path: pathlib.Path):
    plan, outcomes, analysis = study()
    _, markdown, table, latex, _ = write_report(tmp_path, plan, outcomes, analysis)
    with open(table, newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["arm"] for line in lines] == list(VALUES) and [line["control"] for line in lines] == ["0"] * 4 + ["1"]
    for line, row in zip(lines, analysis.rows, strict=True):
        assert float(line["mean"]) == row.mean and float(line["sd"]) == row.sd and int(line["done"]) == row.done
        if row.contrast is not None and row.contrast.interval is not None:
            assert float(line["difference_high"]) == row.contrast.interval.high and float(line["p_t"]) == row.contrast.p_t
            assert line["verdict"] == row.contrast.verdict
        assert int(line["n"]) == len(row.values) and line["metric"] == analysis.metric
        assert not any(" " in line[name] for name in line.keys() - {"arm"}), "one value in each cell"
    assert lines[0]["verdict"] == "baseline" and lines[0]["difference"] == ""
    difference = analysis.rows[1].contrast.difference  # type: ignore[union-attr]
    shown = f"−{-100 * difference:.2f}"
    for text in (markdown.read_text(encoding="utf-8"), terminal_table(plan, analysis)):
        assert "98.61 ± 0.28" in text and shown in text and "2/3" in text
    assert r"98.61 $\pm$ 0.28" in latex.read_text(encoding="utf-8") and f"$-${-100 * difference:.2f}" in latex.read_text(
        encoding="utf-8"
    )
    assert latex.read_text(encoding="utf-8").count(r"\\") == 1 + len(VALUES) + 1 and "| < 0.001" not in markdown.read_text(
        encoding="utf-8"
    )
    assert "&lt; 0.001" in markdown.read_text(encoding="utf-8") and "0.0004" not in markdown.read_text(encoding="utf-8")


def test_the_table_of_runs_has_a_line_for_every_run_and_metric():
    plan, outcomes, analysis = study()
    plan = dataclasses.replace(plan, factors={"norm": ("batch", "none"), "metric": ("l2",)})
    arms = (dataclasses.replace(plan.arms[0], knobs={"metric": "l1, l2"}), *plan.arms[1:])
    plan = dataclasses.replace(plan, arms=arms)
    lines = list(csv.DictReader(runs_csv(plan, outcomes, analysis).splitlines()))
    assert list(lines[0]) == ["arm", "seed", "norm", "knob.metric", "state", "metric", "value", "folder"]
    assert len(lines) == sum(max(len(run.metrics), 1) for run in outcomes)
    for run in outcomes:
        own = [line for line in lines if (line["arm"], int(line["seed"])) == (run.arm, run.seed)]
        assert {line["state"] for line in own} == {run.state} and {line["folder"] for line in own} == {run.folder}
        assert {line["metric"]: line["value"] for line in own} == (
            {name: repr(value) for name, value in run.metrics.items()} or {analysis.metric: ""}
        )
        assert {line["norm"] for line in own} == {"none" if "norm" in run.arm else "batch"}
    assert {line["knob.metric"] for line in lines} == {"l1, l2", "l2"}


def test_pandas_reads_the_tables_with_the_right_types():
    pandas = pytest.importorskip("pandas")
    plan, outcomes, analysis = study()
    plan = dataclasses.replace(plan, factors={"norm": ("batch", "none")})
    runs = pandas.read_csv(io.StringIO(runs_csv(plan, outcomes, analysis)))
    kinds = {name: kind.kind for name, kind in runs.dtypes.items()}
    assert kinds["seed"] == "i" and kinds["value"] == "f" and runs["value"].isna().sum() == 2, "a run diverged, one is missing"
    assert all(isinstance(value, str) for name in ("arm", "state", "metric", "folder", "norm") for value in runs[name])
    assert "none" in set(runs["norm"]), "a level that is called none is no missing value"
    wide = runs[runs["metric"] == analysis.metric].groupby("arm")["value"].agg(["mean", "std", "count"])
    arms = pandas.read_csv(io.StringIO(arms_csv(plan, analysis))).set_index("arm")
    for row in analysis.rows:
        assert wide.loc[row.arm, "mean"] == pytest.approx(row.mean) and wide.loc[row.arm, "count"] == len(row.values)
        assert arms.loc[row.arm, "mean"] == row.mean, "every digit"
    whole, fractions = (
        ("control", "planned", "done", "diverged", "n"),
        ("mean", "sd", "difference", "difference_low", "p_t", "p_holm", "effect_size", "seconds"),
    )
    assert {arms[name].dtype.kind for name in whole} == {"i"} and {arms[name].dtype.kind for name in fractions} == {"f"}


def test_terminal_table_is_aligned_and_fits_the_terminal():
    for plan, _, analysis in (study(), random_study(12)):
        lines = terminal_table(plan, analysis).splitlines()
        assert max(map(len, lines)) <= 110
        ends = {re.search(r"\d/\d", line).end() for line in lines if re.search(r"  \d/\d  ", line)}  # type: ignore[union-attr]
        assert len(ends) == 1
    plan, _, analysis = study()
    text = terminal_table(plan, analysis)
    assert text.index("undecided") < text.index("negative controls") < text.index("shuffled") < text.index("! norm=<b>")
    assert " ".join(text.split()).endswith(analysis.sentence)


def empty_row(name: str, planned: int = 3) -> ArmSummary:
    return ArmSummary(name, planned, 0, 0, 0, planned, (), None, None, None, None, None, None, None)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_report_of_a_study_without_a_finished_run_says_so(tmp_path: pathlib.Path, count: int):
    arms = tuple(Arm(name, {}) for name in ("baseline", "width=2")[:count])
    plan = Study("empty", "lenet5_digits", {}, "random", arms, (), {"width": ("1", "2")})
    outcomes = [outcome(arm.name, 0, None, "MISSING") for arm in arms]
    analysis = Analysis("test/loss", LOSS, tuple(empty_row(arm.name) for arm in arms), (), "", ())
    html_page, markdown, *_ = (path.read_text(encoding="utf-8") for path in write_report(tmp_path, plan, outcomes, analysis))
    for text in (" ".join(Page(html_page).words), markdown, terminal_table(plan, analysis)):
        assert not re.search(r"\b(nan|None)\b", text) and ("No arm" in text) == (count == 0)
    assert tensorboard_hparams(tmp_path / "hparams", plan, outcomes) is None


def test_report_without_curves_spreads_or_costs_leaves_their_parts_out(tmp_path: pathlib.Path):
    rows = (
        ArmSummary("baseline", 1, 1, 0, 0, 0, ((0, 0.51),), 0.51, None, None, None, None, None, None),
        ArmSummary("width=2", 1, 1, 0, 0, 0, ((0, 0.48),), 0.48, None, None, None, None, None, None),
    )
    one = Contrast(1, -0.03, None, None, None, None, None, None, None, None, None, "undecided")
    rows = (rows[0], ArmSummary(**{**rows[1].__dict__, "contrast": one}))
    plan = Study("one seed", "lenet5_digits", {}, "grid", (Arm("baseline", {}), Arm("width=2", {"width": "2"})), (0,), {})
    outcomes = [RunResult(row.arm, 0, "DONE", "runs/x", "python", {"test/loss": row.mean or 0.0}) for row in rows]
    text = write_report(tmp_path, plan, outcomes, Analysis("test/loss", LOSS, rows, (), "", ()))[0].read_text(encoding="utf-8")
    page = Page(text)
    heads = [word for word in page.words if word in ("Learning curves", "Quality against cost", "Difference from the baseline")]
    assert heads == ["Difference from the baseline"] and "−0.0300" in page.words and not re.search(r"\b(nan|None)\b", text)


def test_what_curves_show_is_counted_arm_by_arm_with_the_first_sentence(tmp_path: pathlib.Path):
    plan, outcomes, analysis = study()
    assert findings_line(outcomes) == "" and arm_findings(plan, outcomes) == []
    without = write_report(tmp_path / "without", plan, outcomes, analysis)
    assert not any("curves show" in path.read_text(encoding="utf-8") for path in without)
    made = {("norm=none", 1): ("spike: training loss rose to 9 | <at> step 75",), (ODD, 0): ("plateau: it stayed at 0.4",)}
    made |= {("norm=none", seed): (f"over-fitting: it rose by 0.{seed}", *made.get(("norm=none", seed), ())) for seed in (2, 1)}
    outcomes = [dataclasses.replace(one, findings=made.get((one.arm, one.seed), ())) for one in outcomes]
    found = [finding.cells for finding in arm_findings(plan, outcomes)]
    assert found == [
        ("norm=none", "over-fitting", "2 of 3", "seed 1: it rose by 0.1"),
        ("norm=none", "spike", "1 of 3", "seed 1: training loss rose to 9 | <at> step 75"),
        (ODD, "plateau", "1 of 2", "seed 0: it stayed at 0.4"),
    ]
    assert findings_line(outcomes) == "what the curves of 13 runs show: over-fitting in 2, spike in 1, plateau in 1"
    page, text, *_ = (path.read_text(encoding="utf-8") for path in write_report(tmp_path, plan, outcomes, analysis))
    words = Page(page).words
    assert all(cell in words for cells in found for cell in cells) and "What the curves show" in words
    assert "| norm=none | spike | 1 of 3 | seed 1: training loss rose to 9 \\| &lt;at&gt; step 75 |" in text


def test_the_plan_of_many_arms_is_short(tmp_path: pathlib.Path):
    plan, *_ = study()
    arms = tuple(Arm(f"arm {number}", {}, parameters=10, steps=5, group=number % 3) for number in range(300))
    lines = describe_study(dataclasses.replace(plan, arms=arms), "900 runs", tmp_path).splitlines()  # type: ignore[arg-type]
    assert lines[0].endswith("300 arms x 3 seeds = 900 runs, compared by test/accuracy") and len(lines) < 30
    assert lines[20].startswith("  arm 19 ") and lines[21] == "  … and 280 more arms"
    few = describe_study(dataclasses.replace(plan, arms=arms[:30]), "90 runs", tmp_path)  # type: ignore[arg-type]
    assert few.count(" parameters ") == 30 and "more" not in few


def test_random_search_finds_the_factor_that_matters(tmp_path: pathlib.Path):
    plan, outcomes, analysis = random_study(30)
    words = Page(write_report(tmp_path, plan, outcomes, analysis)[0].read_text(encoding="utf-8")).words
    names = [word for word in words if word in plan.factors]
    assert names[0] == "optimizer.lr" and len(names) == 3
    assert "lr (log)" in words and any("n = 30 arms" in word for word in words)


def test_tensorboard_reads_the_hyperparameters_of_every_cell_that_was_begun(tmp_path: pathlib.Path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import plugin_data_pb2

    plan, outcomes, _ = random_study(3)
    outcomes[1] = outcome(plan.arms[0].name, 1, None, "DIVERGED")
    outcomes[2] = outcome(plan.arms[1].name, 0, None, "MISSING")
    for _ in range(2):  # the second report replaces the first
        tensorboard_hparams(tmp_path, plan, outcomes)
    sessions = sorted({path.parent for path in tmp_path.glob("*/*/events.out.tfevents.*")})
    assert len(list(tmp_path.rglob("events.out.tfevents.*"))) == len(sessions) + 1 == len(outcomes)

    def content(folder: pathlib.Path, tag: str) -> tuple[plugin_data_pb2.HParamsPluginData, float | None]:
        events = accumulator.EventAccumulator(str(folder))
        events.Reload()
        found = plugin_data_pb2.HParamsPluginData.FromString(events.SummaryMetadata(tag).plugin_data.content)
        values = events.Scalars("test/accuracy")[0].value if "test/accuracy" in events.Tags()["scalars"] else None
        return found, values

    assert {info.name for info in content(tmp_path, "_hparams_/experiment")[0].experiment.hparam_infos} >= set(plan.factors)
    start, value = content(sessions[-1], "_hparams_/session_start_info")
    settings = start.session_start_info.hparams
    assert settings["optimizer.lr"].number_value == float(plan.arms[2].knobs["optimizer.lr"])
    assert settings["model.activation"].string_value == plan.arms[2].knobs["model.activation"]
    assert value == pytest.approx(outcomes[-1].metrics["test/accuracy"])
    ends = [content(session, "_hparams_/session_end_info")[0].session_end_info.status for session in sessions[:2]]
    assert ends == [1, 2], "a run that is done, and one that diverged"


def test_report_does_not_need_jax():
    code = "import sys, cnnlab.ablation.report.write; assert not {'jax', 'sklearn', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    names = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")
    program = next((found for name in names if (found := shutil.which(name))), None)
    kept = pathlib.Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", pathlib.Path.home() / ".cache" / "ms-playwright"))
    program = program or next(
        (str(path) for path in sorted(kept.glob("chromium*/chrome-linux*/*")) if path.name in names), None
    )
    if program is None:
        pytest.skip("no Chromium on PATH nor of playwright: the report cannot be looked at")
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


ORDER = "[...document.querySelectorAll('table.sortable')[0].tBodies[0].rows].map(row => row.cells[1].textContent)"


@pytest.mark.parametrize(
    "made", [study, pytest.param(lambda: random_study(12), marks=pytest.mark.slow)], ids=["study", "search"]
)
def test_browser_shows_the_report_without_complaint(browser: Browser, tmp_path: pathlib.Path, made):
    path = write_report(tmp_path, *made())[0]
    papers = []
    for theme in ("light", "dark"):
        for width in (1200, 400):
            browser.show(path, width=width, theme=theme)
            browser.screenshot(tmp_path / f"{theme}_{width}.png")
            assert (tmp_path / f"{theme}_{width}.png").stat().st_size > 10_000
            assert browser.run("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
            assert not browser.complaints()
        papers.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert papers[0] != papers[1]


def test_browser_sorts_arms_by_a_click_and_by_the_keyboard(browser: Browser, tmp_path: pathlib.Path):
    browser.show(write_report(tmp_path, *study())[0], width=1200)
    planned = list(VALUES)[:4]
    assert browser.run(ORDER) == planned
    browser.click("table.sortable th:nth-child(3) button")
    best_first = sorted(planned, key=lambda name: -float(np.mean(VALUES[name])))
    assert browser.run(ORDER) == best_first
    sorts = (
        "[...document.querySelectorAll('table.sortable')[0].tHead.rows[0].cells].map(head => head.getAttribute('aria-sort'))"
    )
    assert browser.run(sorts)[2] == "descending" and browser.run(sorts).count("none") == len(browser.run(sorts)) - 2
    browser.press("Enter")
    assert browser.run(sorts)[2] == "ascending" and browser.run(ORDER)[0] == "norm=none"
    browser.press("Tab")
    browser.press("Enter")  # the next head, n: most runs first
    assert browser.run(sorts)[3] == "descending" and set(browser.run(ORDER)[:2]) == {"baseline", "norm=none"}
    controls = "document.querySelectorAll('table.sortable')[0].tBodies[1].textContent"
    assert "shuffled labels" in browser.run(controls) and not browser.complaints()


def test_browser_copies_or_selects_the_command_of_a_run(browser: Browser, tmp_path: pathlib.Path):
    plan, outcomes, analysis = study()
    browser.show(write_report(tmp_path, plan, outcomes, analysis)[0], width=1200)
    browser.click("table.runs tbody tr:nth-child(2) button.copy")
    assert browser.run("getSelection().toString()").strip() == outcomes[1].command
    assert browser.run("document.querySelectorAll('button.copy')[1].textContent") in ("Copied", "Selected", "Copy")
    assert not browser.complaints()


def test_a_forest_plot_shows_its_largest_effect_and_curves_bear_the_numbers_of_their_arms():
    found = [(0.1, None), (0.4, None), (2.2, None), (-0.05, None)]
    low, high = svg.strip_limits(found)
    assert low < -0.05 and high > 2.2, "what is twenty times the usual effect is on the chart, not an arrow"
    assert svg.strip_limits([*found, (400.0, None)])[1] < 400, "what would put all others on the line is an arrow"
    flat = [svg.Curve(np.arange(2.0), *(np.full(2, value),) * 3) for value in (0.5, 0.5, 0.9)]
    drawn = svg.numbered_ends(flat, [1, 2, 3], svg.Axis(0.0, 1.0), 100)
    heights = [float(y) for y in re.findall(r'y="([\d.]+)"', drawn)]
    assert heights == [14.0, 54.0, 67.0] and re.findall(r">(\d)<", drawn) == ["3", "1", "2"], "equal ends are moved apart"
