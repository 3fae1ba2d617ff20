"""A path means the same place in every flag and knob, however it is written."""

import os
import pathlib

import pytest

from cnnlab import choices, files, knobs
from cnnlab.cli import flags
from cnnlab.cli.verbs import VERBS
from cnnlab.data import DATASETS
from cnnlab.errors import UsageError
from cnnlab.values import Choice, ChoiceOf, PathText


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Home and the current folder; the folder `linked` is a link to a folder elsewhere."""
    home, here = tmp_path / "home", tmp_path / "here"
    (tmp_path / "far" / "away").mkdir(parents=True)
    home.mkdir()
    here.mkdir()
    (here / "linked").symlink_to(tmp_path / "far" / "away")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    return home, here


def test_absolute_makes_one_path_of_all_spellings(places):
    home, here = places
    for written in ("data/x", "./data//x", "data/../data/x", str(here / "data" / "x"), "../here/data/x"):
        assert files.absolute(written) == here / "data" / "x", written
    assert (
        files.absolute("~/x y") == home / "x y" and files.absolute("~") == home and files.absolute("./~/x") == here / "~" / "x"
    )
    assert files.absolute("linked/../x") == here.parent / "far" / "x"  # as the system reads it
    assert files.absolute("linked/x") == here / "linked" / "x"  # a link keeps its name
    for wrong in ("", "~nobody-of-this-name/x", "a\0b"):
        with pytest.raises(UsageError, match=r"is no path|has no home folder"):
            files.absolute(wrong)


def chosen(path: PathText, /, *, weights: PathText | None = None) -> tuple[str, str | None]:
    """Takes two paths."""
    return path, weights


FILES = {"file": chosen}


def test_knobs_and_what_follows_a_colon_are_absolute(places):
    home, here = places

    def experiment(*, source: Choice[FILES] = "file:d", start: PathText | None = None) -> tuple:
        return source(), start

    found = knobs.resolve(experiment, {"source": "file:~/d.x", "weights": "../w", "start": "none"})
    assert found.call() == ((str(home / "d.x"), str(here.parent / "w")), None)
    assert found.values["source"] == f"file:{home / 'd.x'}"
    same = [knobs.resolve(experiment, {"source": f"file:{text}"}).digest for text in ("d", "./d", str(here / "d"))]
    assert len({*same, knobs.resolve(experiment, {}).digest}) == 1


def test_every_flag_and_source_that_takes_a_path_expands_it(places):
    home, here = places
    named = {"workdir": "a", "to": "a", "status_file": "a", "data_dir": str(here / "a")}
    for verb in VERBS.values():
        for flag in flags.flags_of(verb).values():
            if flag.name in named:
                assert flag.read("~/a") == str(home / "a") and flag.read("a") == named[flag.name], flag
    for name in ("npz", "folder", "csv"):
        label = choices.choose("dataset", ChoiceOf(DATASETS), f"{name}:~/a", {})[0]
        assert label == f"{name}:{home / 'a'}"
    assert flags.parse(VERBS["report"], ["~/runs/x", "runs/y"]).folders == (str(home / "runs" / "x"), "runs/y")


def test_json_and_text_hold_names_that_are_no_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    files.write_text(tmp_path / "a.txt", f"{name} ±")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "caf\\udce9 ±"
    files.write_json(tmp_path / "a.json", {"name": name})
    assert files.read_json(pathlib.Path(tmp_path / "a.json")) == {"name": name}


def test_a_terminal_without_a_sign_shows_it_in_ascii_and_keeps_names_apart():
    shown = [text.encode(encoding, "plain") for encoding in ("ascii", "cp1252") for text in ("0.9 ± 0.1 → …", "猫", "犬")]
    assert shown[:3] == [b"0.9 +/- 0.1 -> ...", b"\\u732b", b"\\u72ac"] and shown[3] == b"0.9 \xb1 0.1 -> \x85"
    assert "caf\udce9 猫".encode("utf-8", "plain").decode() == "caf\\udce9 猫"
