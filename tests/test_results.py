"""The table of results: rows from run folders, kept in records, written between two marks of a page."""

import pathlib

import pytest

from cnnlab import files
from cnnlab.errors import UsageError
from cnnlab.overview.results import BEGIN, END, collect, read_results, settings_of, write_results
from tests.test_overview import write_run

PAGE = f"# Title\n\n{BEGIN}\nwhat stood here before\n{END}\n\nAfter.\n"


def run(folder: pathlib.Path, seed: int, accuracy: float, words: str = "", **more):
    command = f"python launch.py train --experiment=linear_digits --seed={seed} --data_dir=/data {words}"
    attempt = {"time": "2026-01-31T12:00:00Z", "command": command, "step": 0}
    more = {"attempts": [attempt], "commit": "a" * 40, "uncommitted_changes": False, **more}
    return write_run(folder / f"seed_{seed}", accuracy=accuracy, seed=seed, run=more)


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    for seed, accuracy in enumerate((0.9, 0.92, 0.94)):
        run(tmp_path / "runs" / "plain", seed, accuracy)
    run(tmp_path / "runs" / "changed", 0, 0.5, "--lr=0.5", commit="b" * 40, uncommitted_changes=True)
    run(tmp_path / "runs" / "own", 0, 0.5, experiment="/elsewhere/mine.py")
    run(tmp_path / "runs" / "claim", 0, 0.5, experiment="c14_learning_rate")
    (tmp_path / "README.md").write_text(PAGE)
    return tmp_path


def test_runs_of_one_setting_are_one_row_with_an_interval(place: pathlib.Path):
    assert write_results([place / "runs"], place / "records", place / "README.md") == ["linear_digits"]
    text = (place / "README.md").read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n| experiment |") and text.endswith(f"\n{END}\n\nAfter.\n")
    assert "stood here" not in text
    rows = [line for line in text.splitlines() if line.startswith("| `linear_digits`")]
    # t with 2 degrees of freedom is 4.303: 92 ± 4.303 · 2 / √3.
    assert "accuracy 92.00 % [87.03, 96.97], 3 seeds | 40 |" in rows[1 - ("--lr" not in rows[0])] + rows[0]
    (changed,) = (line for line in rows if "--lr=0.5" in line)
    assert "accuracy 50.00 %, one seed" in changed and "`python launch.py --experiment=linear_digits --lr=0.5`" in changed
    assert len(rows) == 2 and "earlier: " in next(line for line in text.splitlines() if line.startswith("| `vae_mnist`"))
    assert "/data" not in text and "c14_learning_rate" not in text
    saved = {one.settings: one for one in read_results(place / "records" / "linear_digits.json")}
    assert saved[()].values == {0: 0.9, 1: 0.92, 2: 0.94} and saved[("--lr=0.5",)].commits == (f"{'b' * 12} and changes",)


def test_the_table_is_written_again_from_records_and_more_seeds_stay(place: pathlib.Path):
    write_results([place / "runs"], place / "records", place / "README.md")
    before = (place / "README.md").read_text()
    write_results([], place / "records", place / "README.md")
    assert (place / "README.md").read_text() == before
    run(place / "later", 0, 0.1)
    write_results([place / "later"], place / "records", place / "README.md")
    assert (place / "README.md").read_text() == before, "one seed does not replace three"


def test_what_has_no_row_or_no_place_is_refused(place: pathlib.Path):
    with pytest.raises(UsageError, match="no finished run of an experiment of this repository"):
        collect([place / "runs" / "own"])
    files.write_text(place / "README.md", "# Title\n")
    with pytest.raises(UsageError, match="has no place for the table"):
        write_results([place / "runs"], place / "records", place / "README.md")


def test_settings_are_the_flags_that_change_what_is_trained():
    command = (
        "python launch.py --experiment=x --seeds=3 --model=vgg11 --augment=flip --data_dir=/a --init_from=/b/c.npz --devices=2 "
        "--overwrite --log_every='10 steps'"
    )
    assert settings_of(command) == ("--augment=flip", "--init_from=FOLDER/c.npz", "--model=vgg11")


def test_the_table_of_this_repository_is_that_of_its_records(tmp_path: pathlib.Path):
    from cnnlab.home import ABOVE as ROOT

    page, ours = tmp_path / "results.md", ROOT / "docs" / "results.md"
    page.write_text(ours.read_text(encoding="utf-8"), encoding="utf-8")
    write_results([], ROOT / "docs" / "results", page)
    assert page.read_text(encoding="utf-8") == ours.read_text(encoding="utf-8")
