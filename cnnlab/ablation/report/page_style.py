"""The style sheet and the script of a report: no library, nothing from the network."""

CSS = """
:root { color-scheme: light dark;
  --paper: #fcfcfa; --raised: #f4f4f0; --ink: #1d1f22; --soft: #63676d; --rule: #e2e2dc; --stroke: #a9acb0;
  --accent: #1f5fa8;
  --better: #0a7d5c; --worse: #bd4b00; --undecided: #6c7178; --warning: #8a6100; --warning-paper: #fbf4e0;
  --low: #c9ced6; --high: #1f5fa8;
  --s0: #1d1f22; --s1: #0072b2; --s2: #d55e00; --s3: #00916a; --s4: #b4568f; --s5: #a97700; --s6: #3f9ccf;
  --s7: #7a5bbf; }
@media screen and (prefers-color-scheme: dark) { :root {
  --paper: #141619; --raised: #1c1f23; --ink: #e9e7e3; --soft: #9ea3aa; --rule: #2b2f35; --stroke: #555b64;
  --accent: #86b9f2;
  --better: #46c99f; --worse: #f3924f; --undecided: #a2a8b0; --warning: #e8c268; --warning-paper: #29241a;
  --low: #3d434c; --high: #86b9f2;
  --s0: #e9e7e3; --s1: #58aee8; --s2: #f08945; --s3: #3fc498; --s4: #dd8fbf; --s5: #e0b64a; --s6: #9bd3f2;
  --s7: #b49df0; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 56px 32px 96px; }
h1 { font-size: 2rem; line-height: 1.2; font-weight: 650; letter-spacing: -.015em; margin: 0 0 12px;
  overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; line-height: 1.3; font-weight: 620; margin: 64px 0 4px; }
h3 { font-size: .95rem; font-weight: 600; margin: 24px 0 4px; }
p { margin: 0 0 12px; max-width: 46rem; }
.eyebrow { color: var(--soft); font-size: .85rem; margin: 0 0 6px; }
.lead { font-size: 1.15rem; line-height: 1.5; color: var(--soft); }
.note { color: var(--soft); font-size: .875rem; margin-bottom: 16px; }
.sentence { font-size: 1.15rem; line-height: 1.5; border-left: 3px solid var(--accent); padding: 4px 0 4px 20px;
  margin: 32px 0 20px; max-width: 46rem; }
.sentence ul { font-size: .95rem; line-height: 1.5; margin: 6px 0 0; padding: 0 0 0 18px; }
.warnings { list-style: none; margin: 0 0 8px; padding: 12px 18px; background: var(--warning-paper);
  border-radius: 8px; font-size: .92rem; max-width: 60rem; }
.warnings li { padding: 2px 0 2px 22px; position: relative; }
.warnings li::before { content: "!"; position: absolute; left: 4px; font-weight: 700; color: var(--warning); }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 5px 24px; margin: 24px 0;
  font-size: .92rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code { font: .86em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 0 -10px; }
table { border-collapse: collapse; width: 100%; font-size: .84rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; }
th, td { padding: 9px 10px; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
th { font-weight: 500; color: var(--soft); vertical-align: bottom; border-bottom-color: var(--stroke); }
th.curve { white-space: normal; } th.left, td.left { text-align: left; }
td.name { white-space: normal; min-width: 8.5rem; max-width: 17rem; overflow-wrap: anywhere; font-weight: 500; }
td.wide { white-space: normal; min-width: 16rem; } td.button { width: 1px; }
.flag { display: inline-block; max-width: 100%; }
.parallel { padding: 40px 12px 12px; }
th button { all: unset; cursor: pointer; border-radius: 3px; white-space: nowrap; }
th button:hover { color: var(--ink); }
th button:focus-visible, .copy:focus-visible, summary:focus-visible { outline: 2px solid var(--accent);
  outline-offset: 3px; }
th button::before { content: ""; display: inline-block; margin-right: 5px; vertical-align: 1px; opacity: 0;
  border: 4px solid transparent; border-top-width: 0; border-bottom: 6px solid currentColor; }
th.left button { display: inline-flex; flex-direction: row-reverse; align-items: center; gap: 5px; }
th.left button::before { margin: 0; }
th[aria-sort=ascending] button::before { opacity: 1; }
th[aria-sort=descending] button::before { opacity: 1; transform: rotate(180deg); }
th[aria-sort=ascending], th[aria-sort=descending] { color: var(--ink); }
tbody tr:hover td { background: var(--raised); }
tr.group td, tr.group:hover td { background: none; color: var(--soft); padding-top: 26px; text-align: left;
  font-weight: 500; }
.sub { display: block; color: var(--soft); font-size: .9em; font-weight: 400; }
.soft { color: var(--soft); } .trouble { color: var(--worse); }
.verdict { display: inline-flex; gap: 6px; align-items: center; }
.verdict.better { color: var(--better); } .verdict.worse { color: var(--worse); }
.verdict.differs { color: var(--accent); }
.badge { flex: none; overflow: visible; }
.key { display: flex; flex-wrap: wrap; gap: 6px 22px; list-style: none; padding: 0; margin: 10px 0 0;
  font-size: .86rem; }
.key li { display: inline-flex; gap: 8px; align-items: center; overflow-wrap: anywhere; }
.key b { font-weight: 500; color: var(--soft); font-variant-numeric: tabular-nums; }
.forest { display: grid; grid-template-columns: minmax(9rem, 17rem) minmax(0, 1fr) max-content; column-gap: 28px;
  align-items: center; font-size: .9rem; margin-top: 16px; }
.forest .figures { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.forest .label { overflow-wrap: anywhere; line-height: 1.3; padding: 6px 0; } .forest svg { display: block; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 28px 36px; }
.chart { min-width: 0; margin-top: 16px; }
.axis { font-size: .8rem; color: var(--soft); margin-bottom: 4px; }
.plot { padding: 8px 14px 44px 52px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: 20px 24px;
  margin-top: 16px; }
.tile { font-size: .78rem; line-height: 1.35; min-width: 0; }
.tile svg { display: block; border-bottom: 1px solid var(--stroke); margin-bottom: 6px; }
.tile span { overflow-wrap: anywhere; }
svg text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
svg.fluid, svg.place { overflow: visible; } svg.stretched { overflow: hidden; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.start { text-anchor: start; } .grid { stroke: var(--rule); } .stroke, .zero { stroke: var(--stroke); }
.mark { stroke: currentColor; fill: currentColor; color: var(--undecided); stroke-width: 1.6; stroke-linejoin: round; }
.mark.better, .whisker.better, .arrow.better { color: var(--better); }
.mark.worse, .whisker.worse, .arrow.worse { color: var(--worse); }
.mark.differs, .whisker.differs, .arrow.differs { color: var(--accent); }
.mark.baseline { color: var(--ink); } .mark .hollow { fill: var(--paper); }
.whisker, .arrow { color: var(--undecided); stroke: currentColor; stroke-width: 2; fill: none; stroke-linecap: round;
  stroke-linejoin: round; }
.whisker.thin { stroke-width: 1; opacity: .55; }
.curve { fill: none; stroke-width: 1.8; stroke-linecap: round; stroke-linejoin: round;
  vector-effect: non-scaling-stroke; }
.band { opacity: .13; stroke: none; }
.ink { stroke: var(--ink); color: var(--ink); } path.curve.ink { stroke-width: 1.4; }
path.thick { stroke-width: 3; }
.halo { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
svg text.title { fill: var(--ink); }
.dashed { stroke: var(--soft); stroke-dasharray: 3 3; } path.curvepath.thick { stroke-width: 3; }
.halo { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
svg text.title { fill: var(--ink); }
.dashed { stroke-width: 1.2; }
.accent { stroke: var(--accent); } .band.accent { fill: var(--accent); }
.lines path { fill: none; stroke-width: 1.5; vector-effect: non-scaling-stroke; } .lines path:hover { stroke-width: 4; }
.bars { display: grid; grid-template-columns: max-content minmax(0, 1fr) max-content; gap: 8px 16px; max-width: 46rem;
  align-items: center; font-size: .9rem; font-variant-numeric: tabular-nums; }
.bars i { display: block; height: 10px; background: var(--accent); border-radius: 0 2px 2px 0; min-width: 1px; }
.ramp { display: inline-block; width: 72px; height: 8px; border-radius: 4px;
  background: linear-gradient(to right in oklab, var(--low), var(--high)); }
.copy { font: inherit; font-size: .8rem; color: var(--accent); background: none; border: 1px solid var(--rule);
  border-radius: 6px; padding: 2px 10px; cursor: pointer; min-width: 5rem; }
.copy:hover { border-color: var(--accent); }
.message { white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--accent); font-size: .9rem; margin: 16px 0 8px; width: fit-content;
  border-radius: 3px; }
footer { margin-top: 64px; color: var(--soft); font-size: .82rem; }
@media (max-width: 640px) { main { padding: 32px 18px 64px; } h1 { font-size: 1.6rem; } h2 { margin-top: 48px; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 10px; }
  .forest { grid-template-columns: 1fr; } .forest .label { padding: 12px 0 0; }
  .forest .figures { text-align: left; color: var(--soft); font-size: .86rem; }
  .forest .plain { display: none; } .plot { padding-left: 44px; } td.name { min-width: 9rem; }
  table.runs, table.runs tbody { display: block; }
  table.runs thead tr, table.runs tbody tr { border-bottom: 1px solid var(--rule); padding: 10px 12px;
    display: grid; grid-template-columns: 3.5rem minmax(0, 1fr) 7rem 5rem; gap: 2px 8px; }
  table.runs th, table.runs td { border: 0; padding: 0; min-width: 0; }
  table.runs td.wide, table.runs .left:first-child { grid-column: 1 / -1; max-width: none; }
  table.runs td:nth-child(2), table.runs th:nth-child(2) { text-align: left; }
  table.runs th.wide, table.runs .button { display: none; } }
@media print { body { font-size: 10pt; } main { max-width: none; padding: 0; }
  .scroll { overflow: visible; margin: 0; } table { font-size: 7pt; }
  th, td { padding: 4px; } .curve:is(th, td) { display: none; }
  td.name { min-width: 6rem; } .copy, summary { display: none; } h2 { break-after: avoid; margin-top: 28px; }
  tr, .chart, .tile, .forest > * { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; } * { print-color-adjust: exact; } }
""" + "\n".join(f".s{i} {{ stroke: var(--s{i}); color: var(--s{i}); }} .band.s{i} {{ fill: var(--s{i}); }}" for i in range(8))
"""Colours after Okabe and Ito (2008), darker on paper and lighter on black; a print is always on paper."""

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const before = head.getAttribute("aria-sort"), first = head.dataset.first || "ascending";
    const order = before === "none" ? first : before === "ascending" ? "descending" : "ascending";
    for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", order);
    const value = row => row.cells[column].dataset.value ?? "";
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");  // what is missing comes last in both directions
      const sense = order === "ascending" ? 1 : -1;
      return sense * (isNaN(x) || isNaN(y) ? x.localeCompare(y, undefined, { numeric: true }) : x - y);
    };
    for (const body of table.tBodies) body.append(...[...body.rows].filter(row => !row.matches(".group")).sort(compare));
  }));
}
for (const button of document.querySelectorAll("button.copy")) button.addEventListener("click", async () => {
  const code = button.closest("tr").querySelector(".command");
  getSelection().selectAllChildren(code);  // where the clipboard is barred, Ctrl-C still works
  let told = "Selected";
  try { await navigator.clipboard.writeText(code.textContent); told = "Copied"; } catch { }
  button.textContent = told;
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});
"""
"""Sorting by a click on a head (negative controls stay below), and copying of commands."""
