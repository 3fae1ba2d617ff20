"""docs/own.md and docs/columns.md: the files of their code blocks are written, and their commands run on them."""

import json
import pathlib
import re
import shlex
import sys
from collections.abc import Iterator

import pytest
from stages import slow_but

from cnnlab import own

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
TEXT, COLUMNS = ((DOCS / name).read_text(encoding="utf-8") for name in ("own.md", "columns.md"))


def commands(text: str) -> list[list[str]]:
    """The words after `python launch.py` of every command of a page."""
    return [shlex.split(line)[2:] for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


COMMANDS = commands(TEXT)
TRAINED = [words for words in COMMANDS if words[0] != "ablate" and "--help" not in words]
CLASSIFIERS = [words for words in TRAINED if "--experiment=lenet5_digits" in words]


@pytest.fixture(autouse=True)
def files(tmp_path: pathlib.Path) -> Iterator[None]:
    """Writes the files of the guide; blocks of one file follow each other."""
    for name, text in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", TEXT + COLUMNS, re.DOTALL):
        with open(tmp_path / name, "a", encoding="utf-8") as file:
            file.write(f"{text}\n\n")
    path = list(sys.path)
    yield
    sys.path[:] = path
    for file in tmp_path.glob("*.py"):
        file.unlink()
    own.forget_changed()


def test_the_guide_names_every_part_on_a_command_line():
    flags = {word.partition("=")[0].removeprefix("--") for words in COMMANDS for word in words if ".py:" in word}
    assert flags == {"model", "loss", "optimizer", "schedule", "dataset", "augment", "vary"} and len(TRAINED) == 6


def test_the_parts_of_the_guide_train_together_and_are_recorded(here, tmp_path: pathlib.Path):
    given = {word.partition("=")[0]: word for words in CLASSIFIERS for word in words if ".py:" in word or "penalty" in word}
    small = ["--model.width=2", "--steps=2", "--batch_size=16", "--image_size=none", "--workdir=run"]
    code, _, err = here("--experiment=lenet5_digits", *given.values(), *small)
    assert code == 0, err
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["knobs"]
    assert recorded["model"] == f"{tmp_path}/mine.py:SmallNet" and recorded["model.width"] == 2
    assert recorded["loss.penalty"] == 0.2 and recorded["optimizer.schedule"] == f"{tmp_path}/mine.py:square_root"
    assert recorded["data.augment.darken.most"] == 0.5 and recorded["data.dataset.size"] == 8


@pytest.mark.parametrize("words", [words for words in COMMANDS if "--help" in words or "--dry_run" in words], ids=" ".join)
def test_help_and_plan_of_the_guide(here, words: list[str]):
    code, out, err = here(*words)
    assert code == 0, err
    assert "channels of the first convolution" in out if "--help" in words else "model=linear" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if "--help" not in words and "--dry_run" not in words], ids=" ".join
)
def test_every_command_of_the_guide_runs(here, tmp_path: pathlib.Path, words: list[str]):
    code, out, err = here(*words)
    assert code == 0, err
    if words[0] == "ablate":
        study = json.loads(next(tmp_path.glob("runs/study-*/study.json")).read_text())
        assert study["arms"][0]["knobs"]["model"] == f"{tmp_path}/mine.py:SmallNet"
        assert "model=linear" in out
    else:
        assert "after 20 steps" in out


@pytest.mark.parametrize("words", slow_but(commands(COLUMNS), commands(COLUMNS)[1]), ids=" ".join)
def test_every_command_of_the_page_on_columns_runs(here, words: list[str]):
    code, out, err = here(*words, *(() if words[0] == "inspect" else ("--devices=1",)))
    assert code == 0, err
    assert "dense1" in out if words[0] == "inspect" else "after 20 steps" in out and "r2" in out
