"""The page of claims says what the verdicts say, and where they come from."""

import dataclasses
import json
import pathlib
import shutil

import pytest
from commands import launch

from cnnlab import files
from cnnlab.ablation.plan.study import Arm, Study, Verdict
from cnnlab.ablation.report import claims
from cnnlab.ablation.report.deviations import deviations
from cnnlab.ablation.run import runs
from cnnlab.errors import UsageError
from cnnlab.metric import Metric

REPORT = """# toy

**a is worse.**

## Study design

- design: grid

## Arms

| arm | n | loss |
|---|--:|--:|
| baseline | 2/2 | 0.1 |

## Runs

| arm | folder |
|---|---|
| baseline | /somewhere |
"""


def study_folder(root: pathlib.Path, claim: str, **changes) -> pathlib.Path:
    """A study of two seeds with its verdict and its report."""
    study = Study(
        name=f"toy_{claim}",
        experiment=f"toy_{claim}",
        knobs={"width": "0.5"},
        design="grid",
        arms=(Arm("baseline", {}, folder=f"toy-{claim}"),),
        seeds=(0, 1),
        factors={},
        metric="train/loss",
        metrics={"loss": Metric("loss", higher_is_better=False)},
        flags=("--eval_every=1 epoch",),
        question=f"Does {claim} hold?",
        claim=claim,
    )
    folder = root / f"study-{claim}"
    runs.save_study(study, folder)
    verdict = Verdict(claim, "supported", 0.125, (0.1, 0.15), 0.0004, 2, "It holds: a − baseline = +0.125 [0.1, 0.15].")
    content = dataclasses.asdict(dataclasses.replace(verdict, **changes))
    (folder / "verdict.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "report.md").write_text(REPORT, encoding="utf-8")
    for cell in runs.study_runs(study, folder):
        cell.folder.mkdir(parents=True)
        (cell.folder / "status.json").write_text(json.dumps({"state": "DONE", "time": 1795276947.9}), encoding="utf-8")
        (cell.folder / "run.json").write_text(
            json.dumps({"commit": "0123456789abcdef", "uncommitted_changes": cell.seed == 1}), encoding="utf-8"
        )
        (cell.folder / "result.json").write_text("{}", encoding="utf-8")
    return folder


def test_the_table_has_a_row_for_each_claim_in_the_order_of_their_numbers(tmp_path: pathlib.Path):
    for claim in ("C13", "C7", "C3"):
        study_folder(tmp_path / "runs", claim)
    said = claims.write_page([tmp_path / "runs"], tmp_path / "docs" / "claims")
    text = (tmp_path / "docs" / "claims" / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| C")]
    assert [row.split(" | ")[0] for row in rows] == ["| C3", "| C7", "| C13"]
    assert rows[0].split(" | ")[1:8] == [
        "Does C3 hold?",
        "**supported at small scale**",
        "a − baseline",
        "0.125 in train/loss (lower is better)",
        "\\[0.1, 0.15\\]",
        "< 0.001".replace("<", "&lt;"),
        "2",
    ]
    assert rows[0].endswith("| `toy_C3` |")
    command = "python launch.py ablate --experiment=toy_C3 --width=0.5 --seeds=2 --metric=train/loss '--eval_every=1 epoch'"
    assert f"\n    {command}\n" in text
    assert said.splitlines()[0] == "C3   supported at small scale  Does C3 hold?" and said.endswith("README.md")


def test_a_section_has_the_sentence_the_arms_the_commits_and_the_date(tmp_path: pathlib.Path):
    text = claims.page([claims.read_claim(study_folder(tmp_path, "C7"))])
    section = text[text.index("## C7: Does C7 hold?") :]
    assert "**Supported.** It holds: a − baseline = +0.125 \\[0.1, 0.15\\]." in section
    assert "| baseline | 2/2 | 0.1 |" in section and "/somewhere" not in section and "design: grid" not in section
    assert "Declared before declarations were kept; run on 2026-11-21 from commit 0123456789ab, " in section
    assert "0123456789ab and changes, with 2 seeds per arm:" in section


def test_of_many_arms_the_page_tells_the_number(tmp_path: pathlib.Path):
    folder = study_folder(tmp_path, "C15")
    for count, shown in ((30, True), (31, False)):
        rows = "".join(f"| trial {number} | 2/2 | 0.1 |\n" for number in range(count - 1))
        (folder / "report.md").write_text(REPORT.replace("\n\n## Runs", f"\n{rows}\n\n## Runs"), encoding="utf-8")
        text = claims.page([claims.read_claim(folder)])
        assert ("| trial 3 |" in text) == shown and ("31 arms, which the study's report.md lists." in text) != shown


def test_what_is_unknown_is_a_dash(tmp_path: pathlib.Path):
    folder = study_folder(tmp_path, "C14", verdict="undecided", effect=None, interval=None, p=None, n=0)
    (folder / "report.md").unlink()
    row = next(line for line in claims.page(claims.collect_claims([folder])).splitlines() if line.startswith("| C14"))
    assert row.split(" | ")[2:8] == ["**undecided**", "–", "–", "–", "–", "–"]


def test_a_study_that_is_named_twice_is_shown_once(tmp_path: pathlib.Path):
    folder = study_folder(tmp_path, "C3")
    assert len(claims.collect_claims([tmp_path, folder])) == 1


def test_a_folder_without_a_verdict_is_an_error(tmp_path: pathlib.Path):
    with pytest.raises(UsageError, match=r"no verdict.json in .*\n.*declares a verdict"):
        claims.collect_claims([tmp_path])
    with pytest.raises(UsageError, match="no such folder"):
        claims.collect_claims([tmp_path / "absent"])


def test_the_verb_writes_the_page_and_says_what_is_missing(tmp_path: pathlib.Path):
    study_folder(tmp_path / "runs", "C3")
    code, out, _ = launch("claims", "runs", "--to=page", cwd=tmp_path)
    assert code == 0 and out.startswith("C3  supported at small scale  Does C3 hold?")
    assert "Does C3 hold?" in (tmp_path / "page" / "README.md").read_text(encoding="utf-8")
    for words, error in (((), "claims of what?"), (("runs", "--lr=1"), "claims takes no --lr")):
        code, _, said = launch("claims", *words, cwd=tmp_path)
        assert code == 2 and error in said


def test_claims_that_are_not_named_stay_on_the_page_and_a_new_study_replaces_its_own(tmp_path: pathlib.Path):
    page, once = tmp_path / "docs", tmp_path / "once"
    for claim in ("C3", "C7"):
        study_folder(once, claim)
    claims.write_page([once], page)
    before = (page / "README.md").read_text(encoding="utf-8")
    shutil.rmtree(once)
    study_folder(tmp_path / "again", "C7")
    claims.write_page([tmp_path / "again"], page)
    assert (page / "README.md").read_text(encoding="utf-8") == before
    study_folder(tmp_path / "later", "C7", verdict="refuted", effect=None, interval=None)
    study_folder(tmp_path / "later", "C13")
    said = claims.write_page([tmp_path / "later"], page)
    assert [line.split()[:2] for line in said.splitlines()[:3]] == [
        ["C3", "supported"],
        ["C7", "opposite"],
        ["C13", "supported"],
    ]
    text = (page / "README.md").read_text(encoding="utf-8")
    assert text[: text.index("\n", text.index("| C3"))] == before[: before.index("\n", before.index("| C3"))]
    assert sorted(path.name for path in page.iterdir()) == [*(f"{c}-toy_{c}.json" for c in ("C13", "C3", "C7")), "README.md"]


def test_of_two_studies_of_one_claim_by_one_experiment_the_last_counts(tmp_path: pathlib.Path):
    study_folder(tmp_path / "a", "C3", verdict="refuted")
    for status in (tmp_path / "a").rglob("status.json"):
        status.write_text(json.dumps({"state": "DONE", "time": 1795276999.0}), encoding="utf-8")
    study_folder(tmp_path / "b", "C3")
    assert [claim.verdict.verdict for claim in claims.collect_claims([tmp_path])] == ["refuted"]


def test_a_study_without_a_declaration_replaces_neither_more_seeds_nor_a_declared_one(tmp_path: pathlib.Path):
    folder = study_folder(tmp_path / "runs", "C3", verdict="refuted")
    known = claims.read_claim(folder)
    made = {"digest": "ab" * 32, "commit": "c" * 40, "time": 0.0}
    for better in (
        dataclasses.replace(known, seeds=15, finished=1.0),
        dataclasses.replace(known, seeds=1, finished=1.0, declaration=made, deviations=("A departure.",)),
    ):
        better = dataclasses.replace(better, verdict=dataclasses.replace(known.verdict, verdict="supported"))
        files.write_json(tmp_path / "C3-toy_C3.json", dataclasses.asdict(better))
        assert claims.write_page([folder], tmp_path).startswith("C3  supported")
        assert claims.read_published(tmp_path) == [better]
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert (
        "Declared on 1970-01-01 at commit cccccccccccc (declaration abababab)." in text and "- Deviation: A departure." in text
    )


def test_departures_from_the_declaration_are_read_from_the_runs(tmp_path: pathlib.Path):
    folder = study_folder(tmp_path, "C3")
    cells = list(runs.study_runs(runs.load_study(folder), folder))
    declared = {"digest": "d", "commit": "c", "time": 1795276947.0, "sources": {"a.py": "1", "b.py": "1"}}
    record = {"commit": "c", "sources": {"a.py": "1", "b.py": "1", "only_in_this_arm.py": "1"}}
    for cell in cells:
        content = {**record, "attempts": [{"time": "2026-11-21T16:42:27Z", "allowed": []}]}
        files.write_record(cell.folder / "run.json", content)
    assert deviations(declared, cells) == ()
    early = {"time": "2026-11-21T15:00:00Z", "allowed": ["data"]}
    content = {**record, "sources": {"a.py": "2", "b.py": "1"}, "uncommitted_changes": True, "attempts": [early]}
    files.write_record(cells[0].folder / "run.json", content)
    assert deviations({**declared, "commit": None}, cells) == (
        "1 of 2 runs were begun before the declaration (seeds 0; 2026-11-21T15:00:00Z to 2026-11-21T15:00:00Z), so they could "
        "be looked at. Seeds added after them: 1.",
        "The code lies in no git repository, so it is known by its digests alone.",
        "1 of 2 runs were made with uncommitted changes.",
        "Code changed between declaration and runs: a.py.",
        "Runs went on with differences that --allow=data accepted.",
    )


@pytest.mark.parametrize("content", ["{", "{}", '{"verdict": {"interval": null}}', '{"verdict": 1}'])
def test_a_record_that_is_none_is_an_error(tmp_path: pathlib.Path, content: str):
    study_folder(tmp_path / "runs", "C3")
    (tmp_path / "C7-toy.json").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"C7-toy.json is no record of a claim.\nExpected what .*Remove the file"):
        claims.write_page([tmp_path / "runs"], tmp_path)
    assert not (tmp_path / "README.md").exists()


def test_a_command_names_no_place_of_this_machine(tmp_path: pathlib.Path):
    folder = study_folder(tmp_path, "C9")
    content = files.read_record(folder / "study.json")
    content["knobs"] = {"judge": "run:/home/somebody/judge", "dataset": "tfds:mnist", "data_dir": "D:\\data"}
    content["flags"] = ["--data_dir=/data/sets"]
    files.write_record(folder / "study.json", content)
    command = claims.read_claim(folder).command
    assert (
        "--judge=run:FOLDER --dataset=tfds:mnist --data_dir=FOLDER --seeds=2 --metric=train/loss --data_dir=FOLDER" in command
    )
