"""Writes report.html: one file with the question, the result, and how far it can be trusted."""

from collections.abc import Sequence
from importlib import resources

from cnnlab.ablation.analyse import summary, words
from cnnlab.ablation.analyse.results import Analysis
from cnnlab.ablation.plan.study import RunResult, Study
from cnnlab.ablation.report import formatting, plots, svg
from cnnlab.ablation.report.arms_table import arms_table
from cnnlab.ablation.report.findings import findings_section
from cnnlab.ablation.report.html import cell, escape, header, plain_table, section, table
from cnnlab.ablation.report.provenance import describe_baseline, describe_design, describe_scope, effect_name, provenance
from cnnlab.ablation.report.random_search import random_search

OPEN_RUNS = 24
"""Runs that are shown without a click."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""Content security policy: the browser blocks whatever the page would fetch."""

FILES = resources.files("cnnlab.ablation.report")
"""Folder of page.css and page.js. Both are written into the page, which stays one file that needs no network."""


def page(study: Study, outcomes: Sequence[RunResult], analysis: Analysis) -> str:
    """Returns the report as HTML."""
    parts = [
        _head(study, outcomes, analysis),
        arms_table(study, outcomes, analysis),
        plots.forest(study, analysis),
        plots.learning_curves(study, outcomes, analysis),
        plots.costs(study, analysis),
        findings_section(study, outcomes),
        _effects(study, analysis),
        random_search(study, outcomes, analysis),
        _runs(study, outcomes, analysis),
        section("Provenance", _list(provenance(outcomes))),
    ]
    style, script = (FILES.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(study.name)}</title>\n<style>\n{style.rstrip()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, parts))
        + f"\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _list(facts: Sequence[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{_flags(text)}</dd>' for name, text in facts)}</dl>"


def _flags(text: str) -> str:
    """Returns text as HTML in which no line breaks inside a flag."""
    words = (f'<span class="flag">{escape(word)}</span>' if word.startswith("--") else escape(word) for word in text.split(" "))
    return " ".join(words)


def _head(study: Study, outcomes: Sequence[RunResult], analysis: Analysis) -> str:
    """Returns title, question, design, data and length of training, verdict and warnings."""
    claim = "exploratory" if study.exploratory else f"claim {escape(study.claim)}" if study.claim else ""
    eyebrow = f"Ablation study{f' · {claim}' if claim else ''}"
    parts = [f'<header><p class="eyebrow">{eyebrow}</p><h1>{escape(study.name)}</h1>']
    parts += [f'<p class="lead">{escape(study.question)}</p>'] if study.question else []
    facts = [fact for fact in describe_design(study, analysis) if fact[0] != "Claim"]
    parts.append(_list([*facts, *describe_scope(outcomes)]))
    if analysis.verdict:
        found = "".join(f"<li>{escape(part)}</li>" for part in summary.claim_parts(analysis.verdict))
        stated = f"<strong>{escape(f'{analysis.verdict.claim} {words.in_words(analysis.verdict)}.')}</strong>"
        parts.append(f'<div class="sentence">{stated}<ul>{found}</ul></div>')
    kind = "note" if analysis.verdict else "sentence"
    parts += [f'<p class="{kind}">{escape(analysis.sentence)}</p>'] if analysis.sentence else []
    if analysis.warnings:
        parts.append(f'<ul class="warnings">{"".join(f"<li>{escape(text)}</li>" for text in analysis.warnings)}</ul>')
    return "".join(parts) + "</header>"


def _effects(study: Study, analysis: Analysis) -> str:
    """Returns the main effects and interactions of a full factorial design; empty for another design."""
    if not analysis.effects:
        return ""
    scale = formatting.scale_of(analysis)
    limits = svg.strip_limits([(effect.estimate, effect.interval) for effect in analysis.effects])
    lines, pictures = [], []
    for effect in analysis.effects:
        name, around = effect_name(effect, study), scale.difference_interval(effect.interval)
        estimate = scale.difference(effect.estimate)
        lines.append([name, estimate, around, formatting.p_value(effect.p), formatting.p_value(effect.p_holm), effect.verdict])
        title = f"{name}: {estimate} {around}"
        pictures.append(svg.strip(effect.estimate, effect.interval, effect.verdict, limits=limits, title=title, height=22))
    unit = f", {scale.difference_unit}" if scale.difference_unit else ""
    note = (
        f"Relative to the {escape(describe_baseline(study))}. A main effect is the mean difference over the other "
        "factors and the seeds; an interaction is the difference of two such differences."
    )
    shown = plain_table(["Effect", f"Estimate{unit}", "95 % interval", "p", "p (Holm)", "verdict"], lines, pictures)
    return section("Main effects and interactions", shown, note)


def _runs(study: Study, outcomes: Sequence[RunResult], analysis: Analysis) -> str:
    """Returns the table of runs: state, metric, folder, and the command that trains the run alone."""
    if not outcomes:
        return section("Runs", "<p>No run has been planned.</p>")
    scale = formatting.scale_of(analysis)
    best = "ascending" if analysis.higher_is_better is False else "descending"
    heads = [header("Arm", kind="left"), header("Seed"), header("State", kind="left")]
    heads += [header(formatting.metric_heading(analysis, scale), first=best), header("Wall time")]
    heads += ['<th scope="col" class="left wide">Folder and command</th>', '<th scope="col" class="button"></th>']
    lines = [_run(outcome, analysis.metric, scale) for outcome in formatting.in_planned_order(study, outcomes)]
    shown = " open" if len(outcomes) <= OPEN_RUNS else ""
    summary = f"<summary>{len(outcomes)} run{'s' * (len(outcomes) != 1)}</summary>"
    note = "Every run with its folder, and the command that trains it alone."
    return section("Runs", f"<details{shown}>{summary}{table(heads, [''.join(lines)], kind='sortable runs')}</details>", note)


def _run(outcome: RunResult, metric: str, scale: formatting.Scale) -> str:
    tone = {"DONE": "", "FAILED": "problem", "DIVERGED": "problem"}.get(outcome.state, "soft")
    state = f'<span class="{tone}">{escape(outcome.state.lower())}</span>'
    again = (
        f"started {outcome.attempts} times" if outcome.attempts > 1 else ""
    )  # a study that continues a pruned run counts too
    value, message = outcome.metrics.get(metric), escape(outcome.message.strip())
    place = f'<code>{escape(outcome.folder)}</code><br><code class="command soft">{_flags(outcome.command)}</code>'
    cells = [
        cell(escape(outcome.arm), outcome.arm, kind="left name"),
        cell(str(outcome.seed), outcome.seed),
        cell(state, outcome.state, sub=again, kind="left"),
        cell(scale.value(value), value),
        cell(formatting.seconds(outcome.wall_seconds), outcome.wall_seconds),
        cell(place, sub=f'<span class="message problem">{message}</span>' if message else "", kind="left wide"),
        '<td class="button"><button type="button" class="copy">Copy</button></td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"
