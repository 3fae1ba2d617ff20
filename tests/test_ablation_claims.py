"""Records of claims are what the folders of studies and measurements say, and the page is what the records say."""

import dataclasses
import json
import pathlib
import shutil

import pytest

from cnnlab import files
from cnnlab.ablation.plan.study import Arm, Card, Figure, Study, Verdict
from cnnlab.ablation.report.cards import record as records
from cnnlab.ablation.report.cards.card import ClaimFile
from cnnlab.ablation.report.cards.collect import collect_records
from cnnlab.ablation.report.cards.write import write_page
from cnnlab.ablation.report.deviations import deviations
from cnnlab.ablation.run import runs
from cnnlab.errors import UsageError
from cnnlab.metric import Metric
from experiments.claims.catalogue import CHAPTERS, CLAIMS
from tests.commands import Here

DIGEST = "ab" * 32
FOUND = "It holds: +0.125 nats \\[+0.100, +0.150\\], p &lt; 0.001, n = 2"


def study_folder(root: pathlib.Path, claim: str, *, ended: float = 1795276947.9, **changes) -> pathlib.Path:
    """A declared study of two arms and two seeds with its verdict."""
    study = Study(
        name=f"toy_{claim}",
        experiment=f"toy_{claim}",
        knobs={"width": "0.5"},
        design="grid",
        arms=tuple(Arm(name, knobs, folder=f"{name}-{claim}") for name, knobs in (("baseline", {}), ("a", {"lr": "0.2"}))),
        seeds=(0, 1),
        factors={"lr": ("0.1", "0.2")},
        metric="train/loss",
        metrics={"loss": Metric("loss", unit="nats", higher_is_better=False)},
        flags=("--eval_every=1 epoch",),
        question=f"Does {claim} hold?",
        claim=claim,
        declaration=DIGEST,
    )
    folder = root / f"study-{claim}"
    runs.save_study(study, folder)
    part = Verdict(claim, "supported at small scale", 0.125, (0.1, 0.15), 0.0004, 2, "It holds.", says="It holds")
    part = dataclasses.replace(part, comparison="a − baseline", metric="train/loss", **changes)
    verdict = dataclasses.replace(part, says="", parts=(part,), declaration=DIGEST, scope="a toy")
    files.write_record(folder / "verdict.json", dataclasses.asdict(verdict))
    declared = {"parts": [{"test": "contrast", "arm": "a", "says": "It holds"}], "seeds": [0, 1]}
    content = {"digest": DIGEST, "commit": "c" * 40, "time": 1795276900.0, "declared": declared, "sources": {"a.py": "1"}}
    files.write_record(folder / "declaration.json", content)
    for cell in runs.study_runs(study, folder):
        cell.folder.mkdir(parents=True)
        run = {"commit": "0123456789abcdef", "uncommitted_changes": cell.seed == 1, "sources": {"a.py": "1"}}
        number = 0.5 + (cell.arm.name == "a") / 8 + cell.seed / 100
        files.write_record(cell.folder / "run.json", run)
        files.write_record(cell.folder / "status.json", {"state": "DONE", "time": ended})
        files.write_record(cell.folder / "result.json", {"metrics": {"train/loss": number}})
        line = files.seal_line({"step": 10, "train/loss": number})
        (cell.folder / "metrics.jsonl").write_text(line, encoding="utf-8")
    return folder


def no_card(name: str) -> None:
    """The file of no experiment is known."""


def write(folders: list[pathlib.Path], target: pathlib.Path, **given) -> str:
    return write_page(folders, target, claims=CLAIMS, chapters=CHAPTERS, **given)


def test_a_record_has_what_the_runs_gave(tmp_path: pathlib.Path):
    (found,) = collect_records([study_folder(tmp_path, "C7")], no_card)
    assert (found.name, found.verb, found.claim, found.seeds) == ("toy_C7", "ablate", "C7", (0, 1))
    assert found.baseline == "lr=0.1" and [arm.knobs for arm in found.arms] == [{"lr": "0.1"}, {"lr": "0.2"}]
    numbers = found.arms[1].numbers["train/loss"]
    assert numbers.values == {0: 0.625, 1: pytest.approx(0.635)} and numbers.mean == pytest.approx(0.63)
    assert numbers.interval == pytest.approx((0.63 - 0.0635, 0.63 + 0.0635), abs=1e-4), "12.7 standard errors"
    assert found.commits == ("0123456789ab", "0123456789ab and changes") and records.day(found.finished) == "2026-11-21"
    assert found.command == "python launch.py ablate --experiment=toy_C7 --width=0.5 '--eval_every=1 epoch'"
    records.write_records(tmp_path, [found])
    assert records.read_records(tmp_path) == [found], "it is the same after a file"


def test_the_index_has_the_claims_of_the_catalogue_by_chapter(tmp_path: pathlib.Path):
    for claim in ("C13", "C7", "C3"):
        study_folder(tmp_path / "runs", claim)
    page = tmp_path / "docs" / "claims"
    due = ClaimFile("c21_parameters", "C21", "ablate", "Do they?", Card())
    said = write([tmp_path / "runs"], page, declared=[due])
    assert [line.split()[0] for line in said.splitlines()[:3]] == ["C3", "C7", "C13"]
    assert "C3   supported at small scale  Networks of ReLU units" in said and said.endswith("README.md")
    assert f"1 test declared and not run yet, {len(CLAIMS) - 4} claims planned" in said
    text = (page / "README.md").read_text(encoding="utf-8")
    training = text[text.index("## Training") : text.index("## Regularisation")]
    assert training.index("[C3](c03.md)") < training.index("[C13](c13.md)") and "](c07.md)" not in training
    row = next(line for line in training.splitlines() if "[C3](c03.md)" in line)
    assert row.endswith(
        "| statistical | **supported at small scale** | It holds: +0.125 nats \\[+0.100, +0.150\\], p &lt; 0.001, n = 2. |"
    )
    assert "| declared, not run yet | `python launch.py ablate --experiment=c21_parameters` |" in text
    planned = len(CLAIMS) - 4
    assert f"3 supported at small scale; 1 declared, not run yet; {planned} planned. Last run: 2026-11-21." in text
    assert "[Transfer and pre-training](#transfer-and-pre-training)" in text, "chapters are a tap away on a phone"
    assert sorted(path.name for path in page.glob("c*.md")) == ["c03.md", "c07.md", "c13.md", "c21.md"]


def test_a_test_that_covers_a_part_of_its_claim_has_a_row_and_a_verdict_of_its_own(tmp_path: pathlib.Path):
    study_folder(tmp_path / "runs", "C8")  # of which one half is exact, the other statistical
    study_folder(tmp_path / "runs", "C7")
    due = ClaimFile("c07_larger", "C7", "ablate", "On CIFAR-10?", Card())
    said = write([tmp_path / "runs"], tmp_path / "page", declared=[due])
    assert [line.split("  ")[-1] for line in said.splitlines()[:2]] == ["Does C7 hold?", "Does C8 hold?"]
    text = (tmp_path / "page" / "README.md").read_text(encoding="utf-8")
    assert f"|  | *Does C8 hold?* |  | **supported at small scale** | {FOUND}. |" in text
    assert "](c07.md) | statistical |  |  |\n|  | *Does C7 hold?* |  | **supported" in text and "*On CIFAR-10?*" in text
    picture = (tmp_path / "page" / "figures" / "toy_C8-light.svg").read_text(encoding="utf-8")
    assert "<title>It holds</title>" in picture, "not the whole claim"
    assert "## Does C8 hold?\n" in (tmp_path / "page" / "c08.md").read_text(encoding="utf-8")


def test_a_card_has_the_verdict_the_parts_the_arms_the_commits_and_the_date(tmp_path: pathlib.Path):
    write([study_folder(tmp_path, "C7")], tmp_path / "page")
    text = (tmp_path / "page" / "c07.md").read_text(encoding="utf-8")
    assert text.startswith("# C7: Plain networks get worse with depth; residual ones do not\n")
    assert (
        "**Supported at small scale. It holds: +0.125 nats \\[+0.100, +0.150\\], p &lt; 0.001, n = 2. Scope: a toy.**" in text
    )
    row = "| decides | It holds | a − baseline in training loss, nats (lower is better) | +0.125 nats | \\[+0.100, +0.150\\] |"
    assert row in text and "The baseline is lr=0.1." in text and "| baseline | 0.505 \\[0.441, 0.569\\] | 2 |" in text
    assert f"Declared on 2026-11-21 at commit cccccccccccc (declaration {DIGEST[:8]}); run on 2026-11-21 from commit " in text
    assert "commit 0123456789ab, 0123456789ab and changes, with 2 seeds." in text
    assert "- Departure from the declaration: 2 of 4 runs were made with uncommitted changes." in text
    assert 'srcset="figures/toy_C7-dark.svg"' in text and (tmp_path / "page" / "figures" / "toy_C7-light.svg").is_file()


def test_what_is_unknown_is_a_dash(tmp_path: pathlib.Path):
    folder = study_folder(tmp_path, "C14", verdict="not tested", effect=None, interval=None, p=None, n=0)
    write([folder], tmp_path / "page")
    text = (tmp_path / "page" / "c14.md").read_text(encoding="utf-8")
    assert "(lower is better) | – | – | – | – | not tested |" in text and "**Not tested. Not met: It holds." in text


def test_of_many_arms_the_card_has_the_best_and_the_number_of_the_others(tmp_path: pathlib.Path):
    (found,) = collect_records([study_folder(tmp_path, "C15")], no_card)
    known = found.arms[1].numbers["train/loss"]
    for count, shown in ((30, True), (31, False)):
        arms = tuple(
            dataclasses.replace(
                found.arms[1], name=f"trial {i}", numbers={"train/loss": dataclasses.replace(known, mean=float(-i))}
            )
            for i in range(count)
        )
        records.write_records(tmp_path / "page", [dataclasses.replace(found, arms=arms)])
        write([], tmp_path / "page")
        text = (tmp_path / "page" / "c15.md").read_text(encoding="utf-8")
        assert ("| trial 0 |" in text) == shown and ("best 10; 21 more are in the record." in text) != shown
        assert f"| trial {count - 1} |" in text, "the smallest loss"


def test_runs_that_one_program_trains_side_by_side_take_their_time_once(tmp_path: pathlib.Path):
    folder = study_folder(tmp_path, "C7")
    cells = list(runs.study_runs(runs.load_study(folder), folder))
    took = (("p", 100.0, 50.0), ("p", 101.0, 51.0), ("p", 180.0, 60.0), ("q", 100.0, 40.0))  # process, end, seconds
    for cell, (process, end, seconds) in zip(cells, took, strict=True):
        files.write_record(cell.folder / "status.json", {"state": "DONE", "time": end, "process": process})
        result = files.read_record(cell.folder / "result.json")
        files.write_record(cell.folder / "result.json", {**result, "wall_seconds": seconds})
    (found,) = collect_records([folder], no_card)
    assert found.seconds == pytest.approx(51.0 + 60.0 + 40.0)


def test_a_test_that_is_named_twice_is_recorded_once_and_of_two_runs_the_last_counts(tmp_path: pathlib.Path):
    folder = study_folder(tmp_path / "a", "C3", verdict="opposite", ended=1795276999.0)
    assert len(collect_records([tmp_path, folder], no_card)) == 1
    study_folder(tmp_path / "b", "C3")
    assert [found.verdict.verdict for found in collect_records([tmp_path], no_card)] == ["opposite"]
    write([tmp_path / "a"], tmp_path / "page")
    assert write([tmp_path / "b"], tmp_path / "page").startswith("C3  opposite"), "an earlier run replaces no later one"


def test_a_folder_without_a_verdict_is_an_error(tmp_path: pathlib.Path):
    with pytest.raises(UsageError, match=r"no verdict.json in .*\n.*declares a claim"):
        collect_records([tmp_path], no_card)
    with pytest.raises(UsageError, match="no such folder"):
        collect_records([tmp_path / "absent"], no_card)


def test_a_verdict_without_a_declaration_has_no_place_on_the_page(tmp_path: pathlib.Path):
    folder = study_folder(tmp_path, "C3")
    content = files.read_record(folder / "verdict.json")
    files.write_record(folder / "verdict.json", {**content, "declaration": "cd" * 32})
    with pytest.raises(UsageError, match="do not belong together"):
        collect_records([tmp_path], no_card)
    (folder / "declaration.json").unlink()
    with pytest.raises(UsageError, match=r"study-C3 has no declaration.json, to which .*\nRun it as its file declares it"):
        collect_records([tmp_path], no_card)
    study_folder(tmp_path, "C7")
    assert [found.claim for found in collect_records([tmp_path], no_card)] == ["C7"]


def test_a_verdict_from_a_part_of_the_runs_has_no_place_on_the_page(tmp_path: pathlib.Path):
    study_folder(tmp_path, "C3")
    files.write_record(tmp_path / "a-C3" / "seed_1" / "status.json", {"state": "RUNNING"})
    with pytest.raises(UsageError, match=r"study-C3 has 1 of 4 runs that are not finished, so it has no verdict for the page"):
        collect_records([tmp_path], no_card)
    study_folder(tmp_path, "C7")
    assert [found.claim for found in collect_records([tmp_path], no_card)] == ["C7"]
    files.write_record(tmp_path / "a-C3" / "seed_1" / "status.json", {"state": "DIVERGED"})
    assert [found.claim for found in collect_records([tmp_path], no_card)] == ["C3", "C7"]


def test_claims_that_are_not_named_stay_on_the_page_and_a_new_study_replaces_its_own(tmp_path: pathlib.Path):
    page, once = tmp_path / "docs", tmp_path / "once"
    for claim in ("C3", "C7"):
        study_folder(once, claim)
    write([once], page)
    before = {path.name: path.read_bytes() for path in page.rglob("*.*")}
    shutil.rmtree(once)
    write([study_folder(tmp_path / "again", "C7")], page)
    assert {path.name: path.read_bytes() for path in page.rglob("*.*")} == before
    study_folder(tmp_path / "later", "C7", verdict="opposite", effect=-0.1, interval=None)
    study_folder(tmp_path / "later", "C13")
    said = write([tmp_path / "later"], page)
    assert [line.split()[:2] for line in said.splitlines()[:3]] == [
        ["C3", "supported"],
        ["C7", "opposite"],
        ["C13", "supported"],
    ]
    assert (page / "c03.md").read_bytes() == before["c03.md"]
    assert sorted(path.name for path in (page / "records").iterdir()) == [f"toy_{c}.json" for c in ("C13", "C3", "C7")]
    (page / "records" / "toy_C3.json").unlink()
    write([], page)
    assert not (page / "c03.md").exists() and not list((page / "figures").glob("toy_C3*")), "nothing without a record stays"


def test_the_words_of_a_card_are_those_of_the_file_today(tmp_path: pathlib.Path):
    folder = study_folder(tmp_path, "C7")
    file = ClaimFile("toy_C7", "C7", "ablate", "Does it?", Card(published="Seven points."), "toy.py")
    write([folder], tmp_path / "page", declared=[file])
    shutil.rmtree(tmp_path / "page" / "figures")
    changed = Card(published="Nine points.", would_change="An eight.", quick="--seeds=1", deviations="A toy.")
    write([], tmp_path / "page", declared=[dataclasses.replace(file, card=changed)])
    text = (tmp_path / "page" / "c07.md").read_text(encoding="utf-8")
    assert "| Nine points. | It holds: +0.125 nats" in text and "## What would change our mind\n\nAn eight.\n" in text
    assert "has not been measured" in text and "the same with `--seeds=1`" in text and "[toy.py](toy.py)" in text
    assert "- Deviation from the source: A toy." in text
    unknown = dataclasses.replace(changed, figure=Figure(metric="test/recall"))
    write([], tmp_path / "page", declared=[dataclasses.replace(file, card=unknown)])
    kept = (tmp_path / "page" / "c07.md").read_text(encoding="utf-8")
    assert "| Seven points. |" in kept, "a record without the metric that is drawn keeps its card"


def test_the_verb_writes_the_page_and_says_what_is_missing(tmp_path: pathlib.Path, here: Here):
    study_folder(tmp_path / "runs", "C3")
    code, out, _ = here("claims", "runs", "--to=page")
    assert code == 0 and out.startswith("C3  supported at small scale  Does C3 hold?")
    text = (tmp_path / "page" / "c03.md").read_text(encoding="utf-8")
    assert "Stated by [Krizhevsky et al. 2012]" not in text and "Stated by Krizhevsky et al. 2012, Glorot et al. 2011." in text
    assert "## Does C3 hold?" in text and "**Declared, not run yet.**" in text and "@inproceedings{krizhevsky2012," in text
    for words, error in (((), "claims of what?"), (("runs", "--lr=1"), "claims takes no --lr")):
        code, _, said = here("claims", *words)
        assert code == 2 and error in said


def test_departures_from_the_declaration_are_read_from_the_runs(tmp_path: pathlib.Path):
    folder = study_folder(tmp_path, "C3")
    cells = [cell for cell in runs.study_runs(runs.load_study(folder), folder) if cell.arm.name == "baseline"]
    declared = {"digest": "d", "commit": "c", "time": 1795276947.0, "sources": {"a.py": "1", "b.py": "1"}}
    record = {"commit": "c", "sources": {"a.py": "1", "b.py": "1", "only_in_this_arm.py": "1"}}
    for cell in cells:
        content = {**record, "attempts": [{"time": "2026-11-21T16:42:27Z", "allowed": []}]}
        files.write_record(cell.folder / "run.json", content)
    assert deviations(declared, cells) == ()
    early = {"time": "2026-11-21T15:00:00Z", "allowed": ["data"], "skip_nonfinite": 3}
    content = {**record, "sources": {"a.py": "2", "b.py": "1"}, "uncommitted_changes": True, "attempts": [early]}
    files.write_record(cells[0].folder / "run.json", content)
    assert deviations({**declared, "commit": None}, cells) == (
        "1 of 2 runs were begun before the declaration (seeds 0; 2026-11-21T15:00:00Z to 2026-11-21T15:00:00Z), so they could "
        "be looked at. Seeds added after them: 1.",
        "The code lies in no git repository, so it is known by its digests alone.",
        "1 of 2 runs were made with uncommitted changes.",
        "Code changed between declaration and runs: a.py.",
        "Runs were made with --skip_nonfinite=3, which the declaration does not have.",
        "Runs went on with differences that --allow=data accepted.",
    )


@pytest.mark.parametrize("content", ["{", "{}", '{"verdict": {"interval": null}}', '{"verdict": 1}'])
def test_a_record_that_is_none_is_an_error(tmp_path: pathlib.Path, content: str):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "toy.json").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"toy.json is no record of a claim.\nExpected what .*Remove the file"):
        write([], tmp_path)
    assert not (tmp_path / "README.md").exists()


def test_a_command_names_no_place_of_this_machine(tmp_path: pathlib.Path):
    folder = study_folder(tmp_path, "C9")
    content = files.read_record(folder / "study.json")
    content["knobs"] = {"judge": "run:/home/somebody/judge", "dataset": "tfds:mnist", "data_dir": "D:\\data"}
    content["flags"] = ["--data_dir=/data/sets"]
    files.write_record(folder / "study.json", content)
    (found,) = collect_records([folder], no_card)
    assert found.command.endswith("--judge=run:FOLDER --dataset=tfds:mnist --data_dir=FOLDER --data_dir=FOLDER")


def test_records_are_plain_json(tmp_path: pathlib.Path):
    write([study_folder(tmp_path, "C7")], tmp_path / "page")
    content = json.loads((tmp_path / "page" / "records" / "toy_C7.json").read_text(encoding="utf-8"))
    assert content["arms"][0]["numbers"]["train/loss"]["values"] == {"0": 0.5, "1": 0.51}
    assert content["verdict"]["declaration"] == content["declaration"]["digest"] == DIGEST
