"""Writes the numbers of a study as text: for the terminal, as Markdown and LaTeX."""

import textwrap
from collections.abc import Collection, Sequence

from cnnlab.ablation.analyse import summary, words
from cnnlab.ablation.analyse.results import Analysis, ArmSummary, Contrast, Effect
from cnnlab.ablation.plan.study import RunResult, Study
from cnnlab.ablation.report import formatting
from cnnlab.ablation.report.findings import HEADS, NOTE, TITLE, arm_findings
from cnnlab.ablation.report.markdown import escape_markdown
from cnnlab.ablation.report.provenance import describe_baseline, describe_design, effect_name, provenance

WIDTH = 110
"""Widest line of the terminal output, in columns."""


def _cells(row: ArmSummary, study: Study, analysis: Analysis) -> list[str]:
    """Returns the cells of an arm that follow its name in every text table."""
    contrast, scale = row.contrast, formatting.scale_of(analysis)
    return [
        formatting.finished(row),
        scale.spread(row.mean, row.sd),
        scale.interval(row.interval),
        _difference(contrast, scale),
        formatting.p_value(contrast.p_holm if contrast else None),
        ", ".join(filter(None, (formatting.verdict(row, study), formatting.pruned(row, analysis)))),
    ]


def _difference(found: Contrast | Effect | None, scale: formatting.Scale) -> str:
    """Returns `−0.42 [−0.80, −0.04]`."""
    if found is None:
        return formatting.NOTHING
    estimate = found.difference if isinstance(found, Contrast) else found.estimate
    interval = "" if found.interval is None else scale.difference_interval(found.interval)
    return f"{scale.difference(estimate)} {interval}".strip()


def terminal_table(study: Study, analysis: Analysis) -> str:
    """Returns the arms, the warnings and the verdict for a terminal of 110 columns."""
    arms, controls = formatting.arms_and_controls(study, analysis)
    head = ["runs", _metric_head(analysis), "95 % interval", _difference_head(analysis), "p (Holm)", "verdict"]
    body = [_cells(row, study, analysis) for row in (*arms, *controls)]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    kept = list(range(len(head)))
    if WIDTH - sum(widths) - 2 * len(widths) < 16:  # numbers of many digits: the interval of the mean is the least needed
        kept.remove(2)
    room = WIDTH - sum(widths[i] + 2 for i in kept)
    first = min(room, max((len(row.arm) for row in (*arms, *controls)), default=3))
    first = max(first, 3)

    def line(name: str, cells: Sequence[str]) -> str:
        aligned = [cells[i].ljust(widths[i]) if i == len(head) - 1 else cells[i].rjust(widths[i]) for i in kept]
        return "  ".join([formatting.truncate(name, first).ljust(first), *aligned]).rstrip()

    lines = [*textwrap.wrap(_reading_note(study, analysis), WIDTH), "", line("arm", head)]
    lines += [line(row.arm, cells) for row, cells in zip(arms, body, strict=False)]
    if controls:
        lines += ["", "negative controls, which are expected to do worse"]
        lines += [line(row.arm, cells) for row, cells in zip(controls, body[len(arms) :], strict=True)]
    if not body:
        lines = ["No arm has been planned."]
    if analysis.warnings:
        lines.append("")
        for warning in analysis.warnings:
            lines += textwrap.wrap(f"! {warning}", WIDTH, subsequent_indent="  ")
    if analysis.sentence:
        lines += ["", *textwrap.wrap(analysis.sentence, WIDTH)]
    if analysis.verdict:
        lines += ["", f"{analysis.verdict.claim} {words.in_words(analysis.verdict)}:"]
        for part in summary.claim_parts(analysis.verdict):
            lines += textwrap.wrap(part, WIDTH, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "–": "--",
    "…": r"\ldots{}",
}
"""The LaTeX of special letters; [ is harmless except after a \\\\, where no cell of ours begins with it."""


def tex(text: str) -> str:
    """Returns text that LaTeX sets as it is."""
    return "".join(TEX.get(letter, letter) for letter in " ".join(text.split()))


def arms_tex(study: Study, analysis: Analysis) -> str:
    """Returns a tabular in the style of booktabs, to be \\input in a table of the paper."""
    scale = formatting.scale_of(analysis)
    arms, controls = formatting.arms_and_controls(study, analysis)
    metric = formatting.short_metric(analysis.metric)
    heads = ["Arm", "Runs", tex(f"{metric} [{scale.unit}]" if scale.unit else metric), r"95\,\% interval"]
    heads += [
        f"Difference from baseline [{scale.difference_unit}]" if scale.difference_unit else "Difference from baseline",
        r"$p_\mathrm{Holm}$",
        "Verdict",
    ]

    def line(row: ArmSummary) -> str:
        return " & ".join(
            tex(cell).replace("\\textless{} 0.001", "$<$ 0.001") for cell in (row.arm, *_cells(row, study, analysis))
        )

    lines = [
        f"% {tex(': '.join(filter(None, (study.name, study.question))))}",
        f"% Differences from the {tex(describe_baseline(study))}.",
        "% Mean ± standard deviation over seeds; differences are paired by seed, with 95 % intervals of Student's t.",
        "% Needs \\usepackage{booktabs,textcomp} and UTF-8.",
        r"\begin{tabular}{lrrrrrl}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
        *(f"{line(row)} \\\\" for row in arms),
    ]
    if controls:
        lines += [r"\midrule", r"\multicolumn{7}{l}{\emph{Negative controls}} \\", *(f"{line(row)} \\\\" for row in controls)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)) -> list[str]:
    """Returns a table; the columns with an index in `left` are aligned left, the others right."""
    rule = ["---" if i in left else "--:" for i in range(len(heads))]
    return [
        f"| {' | '.join(map(escape_markdown, row))} |" if row is not rule else f"|{'|'.join(rule)}|"
        for row in (heads, rule, *rows)
    ]


def markdown(study: Study, outcomes: Sequence[RunResult], analysis: Analysis) -> str:
    """Returns the report as Markdown."""
    lines = [*_markdown_head(study, analysis), *_markdown_arms(study, analysis), *_markdown_effects(study, analysis)]
    if found := arm_findings(study, outcomes):
        rows = [finding.cells for finding in found]
        lines += ["", f"## {TITLE}", "", NOTE, "", *_markdown_table(HEADS, rows, left=(0, 1, 3))]
    if outcomes:
        lines += ["", "## Runs", "", *_markdown_runs(study, outcomes, analysis)]
    lines += ["", "## Provenance", ""]
    lines += [f"- {escape_markdown(name)}: {escape_markdown(text)}" for name, text in provenance(outcomes)]
    return "\n".join(lines) + "\n"


def _reading_note(study: Study, analysis: Analysis) -> str:
    """Returns the sentence above a table of arms, which names the baseline."""
    return (
        f"{analysis.metric}: mean ± standard deviation over seeds. Differences from the {describe_baseline(study)} are paired "
        "by seed, with 95 % intervals."
    )


def _metric_head(analysis: Analysis) -> str:
    """Returns `accuracy, %`, the heading of a column of values."""
    return ", ".join(filter(None, (formatting.short_metric(analysis.metric), formatting.scale_of(analysis).unit)))


def _difference_head(analysis: Analysis) -> str:
    """Returns `difference, points`, the heading of a column of differences."""
    return ", ".join(filter(None, ("difference", formatting.scale_of(analysis).difference_unit)))


def _markdown_head(study: Study, analysis: Analysis) -> list[str]:
    """Returns title, question, verdict, sentence, warnings, and the design of the study."""
    lines = [f"# {escape_markdown(study.name)}", ""]
    lines += [escape_markdown(study.question), ""] if study.question else []
    if analysis.verdict:
        lines += [f"**{escape_markdown(f'{analysis.verdict.claim} {words.in_words(analysis.verdict)}.')}**", ""]
        lines += [*(f"- {escape_markdown(part)}" for part in summary.claim_parts(analysis.verdict)), ""]
    emphasis = "" if analysis.verdict else "**"
    lines += [f"{emphasis}{escape_markdown(analysis.sentence)}{emphasis}", ""] if analysis.sentence else []
    lines += [*(f"- Warning: {escape_markdown(warning)}" for warning in analysis.warnings), ""] if analysis.warnings else []
    lines += ["## Study design", ""]
    return lines + [f"- {escape_markdown(name)}: {escape_markdown(text)}" for name, text in describe_design(study, analysis)]


def _markdown_arms(study: Study, analysis: Analysis) -> list[str]:
    """Returns a table of the arms, and one of the negative controls."""
    metric, difference = _metric_head(analysis), _difference_head(analysis)
    heads = ["arm", "runs", metric, "95 % interval", difference, "p", "p (Holm)", "Cohen's d", "verdict"]
    heads += ["training time", "parameters", "MACs"]
    networks = {arm.name: arm for arm in study.arms}

    def cells(row: ArmSummary) -> list[str]:
        done, spread, interval, against, corrected, word = _cells(row, study, analysis)
        contrast, arm = row.contrast, networks.get(row.arm)
        p = formatting.p_value(contrast.p_t if contrast else None)
        size = formatting.effect_size(contrast.effect_size if contrast else None)
        costs = [
            formatting.seconds(row.seconds),
            formatting.count(arm.parameters if arm else None),
            formatting.count(arm.macs if arm else None),
        ]
        return [row.arm, done, spread, interval, against, p, corrected, size, word, *costs]

    lines = []
    arms, controls = formatting.arms_and_controls(study, analysis)
    for title, rows, note in (("Arms", arms, _reading_note(study, analysis)), ("Negative controls", controls, "")):
        if rows:
            lines += [
                "",
                f"## {title}",
                "",
                *([escape_markdown(note), ""] if note else []),
                *_markdown_table(heads, [cells(row) for row in rows]),
            ]
    return lines if analysis.rows else ["", "No arm has been planned."]


def _markdown_effects(study: Study, analysis: Analysis) -> list[str]:
    """Returns a table of the main effects and interactions of a full factorial; [] for another design."""
    if not analysis.effects:
        return []
    scale = formatting.scale_of(analysis)
    rows = [
        [
            effect_name(effect, study),
            _difference(effect, scale),
            formatting.p_value(effect.p),
            formatting.p_value(effect.p_holm),
            effect.verdict,
        ]
        for effect in analysis.effects
    ]
    heads = ["effect", _difference_head(analysis), "p", "p (Holm)", "verdict"]
    return ["", "## Main effects and interactions", "", *_markdown_table(heads, rows)]


def _markdown_runs(study: Study, outcomes: Sequence[RunResult], analysis: Analysis) -> list[str]:
    """Returns a table of the runs: state, metric, folder and command of each."""
    scale = formatting.scale_of(analysis)
    rows = [
        [o.arm, str(o.seed), o.state, scale.value(o.metrics.get(analysis.metric)), o.folder, o.command, o.message]
        for o in formatting.in_planned_order(study, outcomes)
    ]
    return _markdown_table(
        ["arm", "seed", "state", _metric_head(analysis), "folder", "command", "message"], rows, left=(0, 2, 4, 5, 6)
    )
