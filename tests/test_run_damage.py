"""The table of damage: every file of a run x what happened to it x the command that meets it.

Every cell is one of: refused (exit 3 with the name of the file), healed (exit 0 with a line that names it), or not read, where
the command prints what it prints for a whole run. tests/test_run_files.py has the cells of `report`, of run.json and of
study.json, tests/test_checkpoint.py those of every file of a checkpoint, and tests/test_data_cache.py and
test_data_stored_images.py those of the cache of data.
"""

import pathlib
import shutil

import pytest

from cnnlab.runs import run, run_files, writers
from tests.commands import Here
from tests.test_run_files import DAMAGES

TRAIN = [
    *("train", "--experiment=linear_digits", "--steps=3", "--save_every=1 steps", "--eval_every=1 steps"),
    *("--log_every=1 steps", "--log_level=warning", "--devices=1"),
]
COMMANDS = {
    "train": TRAIN,
    "evaluate": ["evaluate", "--log_level=warning", "--devices=1"],
    "export": ["export", "--to=x.safetensors", "--overwrite", "--devices=1"],
}
DONE = {
    "result.json": {"train": "healed"},
    "test_rows.npz": {"train": "healed"},
    "status.json": {"train": "healed"},
    "metrics.jsonl": {"train": "healed"},
    "checkpoints/3/manifest.json": {"evaluate": "healed", "export": "healed"},
    "checkpoints/3/state/_METADATA": {"evaluate": "healed", "export": "healed"},
    "checkpoints/2/manifest.json": {},
}
"""{file of a finished run: {command: what it does}}; a command that is not named does not read the file."""
STOPPED = {
    "status.json": {"train": "healed"},
    "metrics.jsonl": {"train": "healed"},
    "checkpoints/2/manifest.json": {"train": "healed", "evaluate": "healed", "export": "healed"},
    "checkpoints/2/metrics/metrics": {"train": "healed", "evaluate": "healed", "export": "healed"},
    "checkpoints/1/manifest.json": {"train": "healed"},
    "run.json": {"train": "refused"},
}
"""The same of a run that was stopped at step 2 of 3, which `train` resumes."""
NEVER_READ = (".lock", "figures/", "tensorboard/", "changes-")
"""What the names of files begin with that no command reads again; of a lock it is the lock that counts, not the content."""
NAMES = {"checkpoints/3/state/_METADATA": "_METADATA", "checkpoints/2/metrics/metrics": "metrics/metrics"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a finished run, done, and one that was stopped, stopped."""
    from cnnlab.cli.main import main

    above = tmp_path_factory.mktemp("damage")
    assert main([*TRAIN, f"--workdir={above / 'done'}"]) == 0
    assert main([*TRAIN, f"--workdir={above / 'stopped'}", "--stop_after=2"]) == 0
    return above


@pytest.fixture
def one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes all commands of a test share one program: the table is about files."""
    build, programs = run.build, list[object]()

    def shared(*arguments: object, **more: object) -> object:
        programs[:] = programs or [build(*arguments, **more)]  # type: ignore[arg-type]
        return programs[0]

    monkeypatch.setattr(run, "build", shared)


@pytest.mark.slow
@pytest.mark.usefixtures("one_program")
@pytest.mark.parametrize(
    ("state", "name", "command"),
    [
        (state, name, command)
        for state, table in (("done", DONE), ("stopped", STOPPED))
        for name, found in table.items()
        for command in (COMMANDS if state == "done" else found)
    ],
)
def test_every_damage_is_refused_or_healed_with_the_name_of_the_file_or_changes_nothing(
    state: str,
    name: str,
    command: str,
    trained: pathlib.Path,
    tmp_path: pathlib.Path,
    here: Here,
    caplog: pytest.LogCaptureFixture,
):
    expected = (DONE if state == "done" else STOPPED)[name].get(command, "not read")
    folder, words = tmp_path / "run", [*COMMANDS[command], "--workdir=run"]
    digest = (run_files.read(trained / "done", "result.json") or {})["state_digest"]
    shutil.copytree(trained / state, folder)
    whole = here(*words) if expected == "not read" else (0, "", "")
    # A command that does not read the file cannot tell one damage from another.
    for damage in [kind for kind in DAMAGES if kind != "a folder"] if expected != "not read" else ["one bit flipped"]:
        shutil.rmtree(folder)
        shutil.copytree(trained / state, folder)
        DAMAGES[damage](folder / name)
        caplog.clear()
        code, out, err = here(*words)
        said = caplog.text + err
        assert code == (3 if expected == "refused" else 0) and "Traceback" not in err, (damage, err)
        if expected == "not read":
            assert (out, err) == whole[1:], damage
        else:
            assert NAMES.get(name, pathlib.PurePath(name).name) in said and ("damaged" in said or "missing" in said), damage
        if code == 0 and command == "train":
            assert (run_files.read(folder, "result.json") or {})["state_digest"] == digest, damage


def files_of(run: pathlib.Path) -> set[str]:
    """The files of a run by their paths below its folder."""
    return {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.usefixtures("one_program")
def test_every_file_of_a_run_is_in_the_table_or_is_never_read(trained: pathlib.Path, tmp_path: pathlib.Path, here: Here):
    for state in ("done", "stopped"):
        read = {name for name in files_of(trained / state) if not name.startswith((*NEVER_READ, "checkpoints/"))}
        assert read <= {*DONE, *STOPPED}, "a new file of a run needs a row of the table"
    shutil.copytree(trained / "done", tmp_path / "run")
    commands = [[*words, "--workdir=run"] for words in COMMANDS.values()]
    whole = [here(*words) for words in commands]
    unread = [tmp_path / "run" / name for name in files_of(tmp_path / "run") if name.startswith(NEVER_READ)]
    assert len(unread) > 4
    for damage in ("one bit flipped", "emptied", "deleted"):
        for path in unread:
            if damage == "deleted" or path.stat().st_size:
                DAMAGES[damage](path)
        assert [here(*words) for words in commands] == whole, damage
        for path in unread:
            shutil.copy(trained / "done" / path.relative_to(tmp_path / "run"), path)


def test_lines_of_metrics_that_are_gone_are_counted(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "metrics.jsonl"
    write = writers.metrics_file(path, resume_at=0)
    for step in (1, 2, 3):
        write(step, {"train/loss": 0.5})
    writers.metrics_file(path, resume_at=2, written=2)
    assert not caplog.text and len(writers.read_metrics(path)) == 2
    writers.metrics_file(path, resume_at=3, written=3)
    assert "metrics.jsonl is damaged: of 3 lines up to step 3, lost: 1" in caplog.text
    path.unlink()
    writers.metrics_file(path, resume_at=2, written=1)
    assert "of 1 line up to step 2, lost: 1" in caplog.text
