"""The declaration of a claim's study stands before its first run; what differs from it is exploratory, without a verdict."""

import dataclasses
import pathlib
import shlex
import subprocess

import pytest

from cnnlab import files
from cnnlab.ablation import commands
from cnnlab.ablation.analyse import search_verdict, verdicts
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.plan import declaration
from cnnlab.ablation.plan.request import Comparison, DesignRequest
from cnnlab.ablation.report.cards.record import read_records
from cnnlab.ablation.run import local
from cnnlab.cli.claims import declared_files
from cnnlab.cli.groups import Pace
from cnnlab.cli.main import main
from cnnlab.runs import revision
from cnnlab.runs.experiments import load_experiment
from cnnlab.runs.revision import Revision
from tests.commands import ROOT, Here, command

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CLAIM = '''"""A tiny claim."""
from functools import partial
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import contrast
from cnnlab.ablation.plan.study import Card, StudySpec
from cnnlab.data.images import images
from cnnlab.ops.optimizers import sgd
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification, model="linear", data=partial(images, dataset="digits"), optimizer=partial(sgd, lr=0.05),
    duration=Duration(8, "steps"),
)
study = StudySpec(
    question="Does a rate of 0.001 train worse?",
    claim="C99",
    vary=("lr:0.05,0.001",),
    seeds=3,
    first_seed=4,
    metric="train/loss",
    verdict=every(contrast("C99", "lr=0.001", "worse", "A rate of 0.001 trains worse")),
    smallest_effect=0.1,
    card=Card(published="A loss that is twice as high."),
)
'''
REVISION_OF = revision.revision_of
WORDS = ("ablate", "--experiment=tiny.py", "--devices=1", "--eval_every=8 steps")


def write_claim(place: pathlib.Path) -> None:
    (place / "tiny.py").write_text(CLAIM, encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def committed():
    """Pretends that all code is committed, since tests run while files are edited, and trains in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "run_locally", lambda study, folder, *_: main(["work", f"--workdir={folder}", *study.flags]))
        patch.setattr(revision, "revision_of", lambda own, sources: Revision(COMMIT))
        yield


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory):
    """(folder of the command, folder of the study, what the command printed)."""
    place = tmp_path_factory.mktemp("claim")
    write_claim(place)
    code, out, err = command(*WORDS, cwd=place)
    assert code == 0, err
    (folder,) = (place / "runs").glob("study-tiny-*")
    return place, folder, out


def test_a_declaration_holds_the_test_before_the_first_run(studied):
    _, folder, out = studied
    content = declaration.read_declaration(folder)
    declared = content["declared"]
    assert declared["metric"] == "train/loss" and declared["seeds"] == [4, 5, 6] and declared["smallest_effect"] == 0.1
    assert declared["arms"] == {"baseline": {"lr": "0.05"}, "lr=0.001": {"lr": "0.001"}}
    (part,) = declared["parts"]
    assert {
        "test": "contrast",
        "arm": "lr=0.001",
        "expected": "worse",
        "says": "A rate of 0.001 trains worse",
    }.items() <= part.items()
    assert content["commit"] == COMMIT and content["sources"]
    assert f"tests C99 as declared (declaration {content['digest'][:8]})" in out
    verdict = files.read_record(folder / "verdict.json")
    assert verdict["declaration"] == content["digest"] and (verdict["verdict"], verdict["n"]) == ("supported at small scale", 3)
    assert (folder / declaration.DECLARATION).stat().st_mtime <= min(
        path.stat().st_mtime for path in folder.parent.glob("tiny-*/seed_*/run.json")
    )


DIFFERENT = {
    ("--metric=train/accuracy",): "metric (declared: train/loss; here: train/accuracy)",
    ("--seed=0",): "seeds (declared: 3, from 4 to 6; here: 3, from 0 to 2)",
    ("--steps=4",): "duration (declared: 8 steps; here: 4 steps)",
    (
        "--vary=lr:0.05,0.1",
        "--metric=train/loss",
        "--seed=4",
        "--seeds=3",
    ): "arms (declared: 2: baseline; lr=0.001; here: 2: ba",
    (
        "--vary=lr:0.05,0.001",
        "--metric=train/loss",
        "--seed=4",
        "--seeds=3",
    ): "design (declared: that of the file; here: --vary)",
    (
        "--precision=bf16",
        "--log_every=1 steps",
    ): "precision (declared: f32; here: bf16), run flags (declared: none; here: --log_",
    (
        "--steps=4",
        "--skip_nonfinite=3",
    ): "duration (declared: 8 steps; here: 4 steps), run flags (declared: none; here: --skip_nonfinite=3)",
    ("--exploratory",): "as --exploratory asks",
}


@pytest.mark.parametrize("words", DIFFERENT, ids=" ".join)
def test_whatever_differs_from_the_declaration_is_named(words: tuple[str, ...], studied):
    place, folder, _ = studied
    code, out, err = command(*WORDS, *words, "--dry_run", cwd=place)
    line = next((line for line in out.splitlines() if line.startswith("exploratory: ")), "")
    assert code == 0 and DIFFERENT[words] in line and line.endswith("; no verdict"), out + err
    assert f"in {folder.relative_to(place)}" not in out.splitlines(), "an exploratory study has a folder of its own"


def test_an_exploratory_study_gets_no_verdict_and_never_the_page(studied):
    place, folder, _ = studied
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    code, out, err = command(*WORDS, "--seeds=2", cwd=place)  # its runs are there already
    assert code == 0 and "! exploratory: differs from the declaration of C99 in seeds" in out, err
    (other,) = (one for one in (place / "runs").glob("study-tiny-*") if one != folder)
    assert not (other / "verdict.json").exists() and not (other / "declaration.json").exists()
    assert "exploratory: differs from the declaration" in (other / "report.md").read_text(encoding="utf-8")
    assert command("report", str(other), cwd=place)[0] == 0 and not (other / "verdict.json").exists()
    assert {path: path.read_bytes() for path in before} == before
    code, _, err = command("claims", str(other), "--to=page", cwd=place)
    assert code == 2 and "exploratory: differs from the declaration of C99" in err and "no verdict for the page" in err
    code, out, _ = command("claims", "runs", "--to=page", cwd=place)
    assert code == 0 and files.read_json(place / "page" / "records" / "tiny.json")["verdict"]["n"] == 3
    code, _, err = command(*WORDS, "--seeds=2", f"--workdir={folder}", cwd=place)
    assert code == 2 and "holds a study that follows the declaration" in err and "another --workdir" in err


def test_a_study_whose_declaration_is_lost_gets_no_verdict(studied):
    place, folder, _ = studied
    copy = place / "runs" / "copy"
    copy.mkdir()
    (copy / "study.json").write_bytes((folder / "study.json").read_bytes())
    code, _, err = command("report", str(copy), cwd=place)
    assert code == 0 and (copy / "report.md").exists() and not (copy / "verdict.json").exists(), err
    (copy / "verdict.json").write_bytes((folder / "verdict.json").read_bytes())
    code, _, err = command("claims", str(copy), "--to=lost", cwd=place)
    assert code == 2 and "has no declaration.json, to which its verdict could be traced" in err
    (copy / "verdict.json").unlink()


def test_the_page_says_where_the_test_was_declared_and_where_it_ran(studied):
    place, folder, _ = studied
    command("claims", str(folder), "--to=said", cwd=place)
    text = (place / "said" / "c99.md").read_text(encoding="utf-8")
    digest = declaration.read_declaration(folder)["digest"]
    assert f"at commit 0123456789ab (declaration {digest[:8]}); run on 20" in text and "No departures" in text
    assert "\npython launch.py ablate --experiment=tiny.py --devices=1 '--eval_every=8 steps'\n" in text
    assert "| in the source | here |" in text and "A loss that is twice as high." in text, "the card is that of the file"
    (place / "said" / "c99.md").unlink()
    assert command("claims", "--to=said", cwd=place)[0] == 0, "the page is written again from its records"
    assert (place / "said" / "c99.md").read_text(encoding="utf-8") == text


def test_a_test_that_is_declared_after_the_runs_says_so_and_the_old_verdict_stays(studied, tmp_path: pathlib.Path):
    place, folder, _ = studied
    kept = files.read_record(folder / "verdict.json")
    changed = CLAIM.replace("smallest_effect=0.1", "smallest_effect=0.2").replace("seeds=3", "seeds=2")
    (place / "tiny.py").write_text(changed, encoding="utf-8")
    try:
        code, _, err = command("report", str(folder), cwd=place)
        assert code == 0 and "no new verdict on C99" in err and files.read_record(folder / "verdict.json") == kept
        code, out, err = command(*WORDS, "--allow=code", "--workdir=runs/again", cwd=place)
        assert code == 0 and "tests C99 as declared" in out, err
        command("claims", "runs/again", f"--to={tmp_path}", cwd=place)
        departure = "Departure from the declaration: 4 of 4 runs were begun before the declaration (seeds 4, 5; 20"
        assert departure in (tmp_path / "c99.md").read_text(encoding="utf-8")
    finally:
        write_claim(place)


def test_code_that_is_not_committed_is_refused(tmp_path: pathlib.Path, here: Here, monkeypatch: pytest.MonkeyPatch):
    write_claim(tmp_path)
    monkeypatch.setattr(revision, "revision_of", lambda own, sources: Revision(COMMIT, ("cnnlab/core.py",)))
    code, _, err = here(*WORDS)
    said = "cnnlab/core.py is not as the commit 0123456789ab has it, so a verdict on C99 could not be traced: commit first, or"
    assert code == 2 and said in err and not (tmp_path / "runs").exists()
    code, _, err = here("ablate", "--experiment=mlp_digits", "--vary=lr:0.1,0.2", "--exploratory")
    assert code == 2 and "--exploratory: mlp_digits declares no claim" in err
    assert here(*WORDS, "--exploratory", "--dry_run")[0] == 0 and here(*WORDS, "--steps=1", "--dry_run")[0] == 0


def test_a_knob_that_the_command_fills_in_is_no_difference(tmp_path: pathlib.Path, here: Here):
    filled = CLAIM.replace("smallest_effect=0.1,", 'inputs=("duration",),')
    (tmp_path / "tiny.py").write_text(filled, encoding="utf-8")
    code, out, err = here(*WORDS, "--steps=4", "--dry_run")
    assert code == 0 and "tests C99 as declared" in out, err


def test_the_commands_of_the_page_are_what_the_files_declare(here: Here):
    """Those of tests that were run, and of those that were not."""
    said = {file.name: file.command for file in declared_files(ROOT / "docs" / "claims") if file.verb == "ablate"}
    assert said
    said |= {one.name: one.command for one in read_records(ROOT / "docs" / "claims") if one.verb == "ablate"}
    differing, pace = {}, {field.name for field in dataclasses.fields(Pace)}
    for name, text in said.items():
        words = shlex.split(text)
        flags = dict(word.removeprefix("--").split("=", 1) for word in words[3:])
        loaded = load_experiment(flags.pop("experiment"), data_dir=flags.pop("data_dir", None))
        first, count = int(flags.pop("seed", loaded.study.first_seed)), int(flags.pop("seeds", loaded.study.seeds))
        comparison = Comparison(first, count, flags.pop("metric", None))
        flags = {name: value for name, value in flags.items() if name not in pace}  # what they train is the same
        common = loaded.resolve(flags)
        study = commands.study_from_flags(DesignRequest(), loaded, common, flags, (), comparison, precision="f32")
        found = declaration.differences(study, declaration.declared_by(loaded), loaded)
        differing |= {name: found} if found else {}
    assert differing == {}


def test_the_revision_of_an_own_file_is_that_of_its_repository(tmp_path: pathlib.Path):
    own = tmp_path / "own.py"
    own.write_text("", encoding="utf-8")

    def changed() -> bool:
        revision.git.cache_clear()
        return "own.py" in REVISION_OF([own], []).changed

    assert not changed(), "in no repository"
    for words in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a", "--allow-empty"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    assert changed(), "never added"
    subprocess.run(["git", "-C", str(tmp_path), "add", "own.py"], check=True)
    assert changed(), "added, not committed"
    revision.git.cache_clear()


def test_untracked_code_that_a_study_imports_is_named(monkeypatch: pytest.MonkeyPatch):
    said = {"ls-files": "cnnlab/core.py\nexperiments/a.py", "diff": "cnnlab/knobs.py"}
    monkeypatch.setattr(revision, "git", lambda folder, *words: said.get(words[0], ""))
    monkeypatch.setattr(revision, "code_revision", lambda: (COMMIT, True))
    found = REVISION_OF([], ["cnnlab/core.py", "experiments/new.py", "own.py"])
    assert found == Revision(COMMIT, ("cnnlab/knobs.py", "experiments/new.py"))
    monkeypatch.setattr(revision, "git", lambda folder, *words: None)
    monkeypatch.setattr(revision, "code_revision", lambda: (None, None))
    assert REVISION_OF([], ["experiments/new.py"]) == Revision(None)


def test_rules_are_described_with_their_arguments():
    best = search_verdict.BestOf("C1", "trial ", "point ", "validation/loss", "says")
    assert declaration.describe_rule(best) == {"test": "BestOf", "claim": "C1", "ours": "trial ", "theirs": "point "} | {
        "chosen_by": "validation/loss",
        "says": "says",
    }
    margin = declaration.describe_rule(every(verdicts.bounded("C1", "a", "not worse", 0.5, "x")))
    part = {"test": "bounded", "arm": "a", "expected": "not worse", "margin": 0.5, "says": "x", "decided_by": "t"}
    assert (part | {"role": "decides", "setting": "small"}).items() <= margin["rules"][0].items()
    assert declaration.describe_rule(lambda analysis: None)["test"] == "test_rules_are_described_with_their_arguments"


@pytest.mark.slow
def test_the_command_of_the_page_gives_the_same_verdict(studied, tmp_path: pathlib.Path):
    place, folder, _ = studied
    command("claims", str(folder), f"--to={tmp_path}/page", cwd=place)
    words = shlex.split(files.read_json(tmp_path / "page" / "records" / "tiny.json")["command"])
    assert words[:2] == ["python", "launch.py"]
    write_claim(tmp_path)
    code, _, err = command(*words[2:], cwd=tmp_path)
    assert code == 0, err
    (again,) = (tmp_path / "runs").glob("study-tiny-*")
    kept, found = (files.read_record(one / "verdict.json") for one in (folder, again))
    assert found == kept


@pytest.mark.slow
def test_a_short_study_of_a_claim_gets_no_verdict(tmp_path: pathlib.Path):
    code, out, err = command("ablate", "--experiment=c14_learning_rate", "--steps=20", "--seeds=2", cwd=tmp_path)
    said = "exploratory: differs from the declaration of C14 in seeds (declared: 8, from 0 to 7; here: 2, from 0 to 1)"
    assert code == 0 and said in out and "duration (declared: 800 steps; here: 20 steps)" in out, err
    assert "\nC14 " not in out and not list(tmp_path.rglob("verdict.json"))
    assert command("claims", "runs", cwd=tmp_path)[0] == 2
