"""The table of arms in report.html, its columns one by one."""

from collections.abc import Callable, Sequence

from cnnlab.ablation.analyse.results import Analysis, ArmSummary
from cnnlab.ablation.plan.study import RunResult, Study
from cnnlab.ablation.report import formatting, svg
from cnnlab.ablation.report.html import cell, escape, header, plain_table, section, table
from cnnlab.ablation.report.plots import arm_curves
from cnnlab.ablation.report.provenance import describe_baseline

Column = tuple[str, Callable[[ArmSummary], str]]
"""(head, row -> cell), both HTML."""

NONE = f'<span class="soft">{formatting.NOTHING}</span>'


def arms_table(study: Study, outcomes: Sequence[RunResult], analysis: Analysis) -> str:
    """Returns the table with a row for every arm; negative controls stand below the others."""
    if not analysis.rows:
        return section("Arms", "<p>No arm has been planned.</p>")
    arms, controls = formatting.arms_and_controls(study, analysis)
    places = {row.arm: i + 1 for i, row in enumerate((*arms, *controls))}
    columns: list[Column] = [
        (header("#", sort="ascending"), lambda row: cell(f'<span class="soft">{places[row.arm]}</span>', places[row.arm])),
        (header("Arm", kind="left"), lambda row: cell(escape(row.arm), row.arm, kind="left name")),
        *_measured(study, analysis),
        *_costs(study, analysis),
        *_curves(study, outcomes, analysis),
    ]

    def lines(rows: Sequence[ArmSummary]) -> str:
        return "".join(f"<tr>{''.join(show(row) for _, show in columns)}</tr>" for row in rows)

    title = f'<tr class="group"><td colspan="{len(columns)}">Negative controls, expected to do worse</td></tr>'
    shown = table([head for head, _ in columns], [lines(arms), title + lines(controls) if controls else ""], kind="sortable")
    note = (
        "Each row is an arm: one setting, trained with several seeds. Values are mean ± standard deviation over seeds with the "
        f"95 % interval of the mean; differences from the {escape(describe_baseline(study))} are "
        "paired by seed, with their 95 % interval; p is that of the paired t-test with Holm’s correction for the number of "
        "arms, and below it without. Training time is the median time of a step times the steps, without "
        "compilation. Click a heading to sort."
    )
    return section("Arms", shown + _robustness(analysis), note)


def _measured(study: Study, analysis: Analysis) -> list[Column]:
    scale = formatting.scale_of(analysis)
    best = "ascending" if analysis.higher_is_better is False else "descending"
    difference = f"Difference{', ' + scale.difference_unit if scale.difference_unit else ''}"

    def mean(row: ArmSummary) -> str:
        return cell(scale.spread(row.mean, row.sd), row.mean, sub=scale.interval(row.interval) if row.interval else "")

    def done(row: ArmSummary) -> str:
        failures = formatting.failures(row).replace(", ", "<br>")
        return cell(formatting.finished(row), row.done, sub=f'<span class="problem">{failures}</span>' if failures else "")

    def against(row: ArmSummary) -> str:
        if row.contrast is None:
            return cell(NONE)
        around = scale.difference_interval(row.contrast.interval) if row.contrast.interval else ""
        return cell(scale.difference(row.contrast.difference), row.contrast.difference, sub=around)

    def p_values(row: ArmSummary) -> str:
        if row.contrast is None:
            return cell(NONE)
        p, holm = row.contrast.p_t, row.contrast.p_holm
        single = f"p {escape(formatting.p_value(p))}" if p is not None else ""
        return cell(NONE if holm is None else escape(formatting.p_value(holm)), holm, sub=single)

    def effect_size(row: ArmSummary) -> str:
        value = row.contrast.effect_size if row.contrast else None
        return cell(NONE if value is None else escape(formatting.effect_size(value)), value)

    def verdict(row: ArmSummary) -> str:
        word = formatting.verdict(row, study)
        if word == formatting.NOTHING:
            return cell(NONE, kind="left")
        if word == "pruned":
            return cell('<span class="soft">pruned</span>', word, sub=escape(formatting.pruned(row, analysis)), kind="left")
        shown = f'<span class="verdict {word}">{svg.badge(word)}{word}</span>'
        return cell(shown, word, sub=escape(formatting.why_undecided(row.contrast, analysis)), kind="left")

    return [
        (header(formatting.metric_heading(analysis, scale), first=best), mean),
        (header("Runs", first="descending"), done),
        (header(difference, first=best), against),
        (header("p (Holm)"), p_values),
        (header("Cohen’s d", first="descending"), effect_size),
        (header("Verdict", kind="left"), verdict),
    ]


def _costs(study: Study, analysis: Analysis) -> list[Column]:
    """Returns the columns time, parameters and MACs, each where it is known for some arm."""
    parameters = {arm.name: arm.parameters for arm in study.arms}
    macs = {arm.name: arm.macs for arm in study.arms}
    columns: list[Column] = []
    if any(formatting.finite(row.seconds) for row in analysis.rows):
        columns.append((header("Training time"), lambda row: cell(formatting.seconds(row.seconds), row.seconds)))
    for name, sizes in (("Parameters", parameters), ("MACs", macs)):
        if any(size is not None for size in sizes.values()):
            columns.append((header(name), _size(sizes)))
    return columns


def _size(sizes: dict[str, int | None]) -> Callable[[ArmSummary], str]:
    return lambda row: cell(formatting.count(sizes.get(row.arm)), sizes.get(row.arm))


def _curves(study: Study, outcomes: Sequence[RunResult], analysis: Analysis) -> list[Column]:
    curves, name, _ = arm_curves(study, outcomes, analysis.metric)
    if not curves:
        return []
    controls = {arm.name for arm in study.arms if arm.control}
    shared = [curve for arm, curve in curves.items() if arm not in controls]

    def show(row: ArmSummary) -> str:
        if row.arm not in curves:
            return f'<td class="left curve">{NONE}</td>'
        alone = row.arm in controls  # a control that does not learn would lie outside the scale of the others
        down = svg.curve_axes([curves[row.arm]] if alone else shared, log=False)[1]
        return f'<td class="left curve">{svg.sparkline(curves[row.arm], down)}</td>'

    title = f"{name.split('/')[0].capitalize()} {name.split('/')[-1]}"
    return [(f'<th scope="col" class="left curve">{escape(title)}</th>', show)]


def _robustness(analysis: Analysis) -> str:
    """Returns the statistics that do not rest on the assumption of the t-test, folded away."""
    scale = formatting.scale_of(analysis)
    compared = [(row, row.contrast) for row in analysis.rows if row.contrast is not None]
    if not compared:
        return ""
    heads = [
        "Arm",
        "Paired seeds",
        "Bootstrap interval",
        "With the test set’s sampling",
        "p (sign flips)",
        "p (Wilcoxon)",
        "p (McNemar)",
        "Test-set error",
    ]
    lines = [
        [
            row.arm,
            str(contrast.n),
            scale.difference_interval(contrast.bootstrap),
            scale.difference_interval(contrast.two_way),
            formatting.p_value(contrast.p_signs),
            formatting.p_value(contrast.p_wilcoxon),
            formatting.p_value(contrast.mcnemar_p),
            scale.value(row.test_se),
        ]
        for row, contrast in compared
    ]
    note = (
        '<p class="note">Other tests of the same differences, which do not assume a normal distribution. The interval with '
        "the test set’s sampling holds for other seeds and other test examples, the others for other seeds alone. McNemar’s "
        "test compares the two models of the first shared seed on the same test examples. The test-set error is the standard "
        "error of one run that comes from the finite test set.</p>"
    )
    return f"<details><summary>More statistics</summary>{note}{plain_table(heads, lines)}</details>"
