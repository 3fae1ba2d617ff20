"""Several processes train one run: the curve of one process, one folder, and an end that says who is gone or stuck."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from jax._src.clusters import ClusterEnv
from PIL import Image

from cnnlab import files
from cnnlab.cli import supervise
from cnnlab.cli.groups import Processes
from cnnlab.engine import processes
from cnnlab.errors import PeerLost, UsageError, of_the_world
from cnnlab.runs import ends, run_files
from cnnlab.runs.lock import locked
from tests.commands import finish, launch, start

WORDS = ("--experiment=mlp_digits", "--steps=1200", "--save_every=60 steps", "--eval_every=300 steps", "--workdir=run")
TWO = ("--num_processes=2", "--fake_devices=1")


def last_step(folder: pathlib.Path) -> int:
    """Returns the last logged step of a run."""
    path = folder / "metrics.jsonl"
    steps = re.findall(r'"step": (\d+)', path.read_text()) if path.exists() else []
    return int(steps[-1]) if steps else 0


def child(parent: int, index: int) -> int:
    """Returns the number of the process with this index that a command started."""
    listed = subprocess.run(
        ["ps", "-ww", "--ppid", str(parent), "-o", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    (found,) = (line.split()[0] for line in listed.splitlines() if f"--process_id={index}" in line)
    return int(found)


def signalled_at(
    step: int, number: int, *words: str, place: pathlib.Path, of: int | None = 1, then: int | None = None
) -> tuple[int, str, str]:
    """Runs a command, sends a signal to a process of it (None: to the parent) once that step is logged; returns its end.

    then: a signal to the parent after that.
    """
    process = start(*words, cwd=place)
    until = time.monotonic() + 200
    while last_step(place / "run") < step and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(process.pid if of is None else child(process.pid, of), number)
    if then is not None:
        os.kill(process.pid, then)
    return finish(process, seconds=200)


def result(place: pathlib.Path) -> dict:
    return json.loads((place / "run" / "result.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder above a run of two processes that nothing interrupted."""
    place = tmp_path_factory.mktemp("whole")
    code, out, err = launch("train", *WORDS, *TWO, cwd=place)
    assert code == 0, err
    assert "jit on 2 cpu devices" in err and "test accuracy" in out and "[Gloo]" not in out + err
    return place


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one_with_as_many_devices(whole: pathlib.Path, tmp_path: pathlib.Path):
    code, _, err = launch("train", *WORDS, "--fake_devices=2", cwd=tmp_path)
    assert code == 0, err
    curves = []
    for place in (whole, tmp_path):
        lines = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
        curves.append([[line[name] for name in sorted(line) if name != "check"] for line in lines])
    assert [len(line) for line in curves[0]] == [len(line) for line in curves[1]]
    for two, one in zip(*curves, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-5)
    assert sorted(path.name for path in (whole / "run").iterdir()) == sorted(path.name for path in (tmp_path / "run").iterdir())
    assert [path.name for path in whole.iterdir()] == ["run"], "the second process wrote nothing"


@pytest.mark.slow
def test_a_run_that_loses_a_process_three_times_ends_with_the_same_bits(whole: pathlib.Path, tmp_path: pathlib.Path):
    words = ("train", *WORDS, *TWO)
    code, _, err = signalled_at(100, signal.SIGKILL, *words, place=tmp_path)
    assert code == 1 and "error: process 1 was killed by SIGKILL. All processes of the run were ended." in err
    assert "Traceback" not in err and "The same command goes on" in err
    begun = last_step(tmp_path / "run")
    code, _, err = signalled_at(begun + 60, signal.SIGTERM, *words, place=tmp_path)
    assert code == 75 and "stopped by a signal at step" in err and "Traceback" not in err, err
    assert "SIGTERM to process 1 of 2: all save a checkpoint" in err, "process 0 says which of them got it"
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "PREEMPTED"
    begun = last_step(tmp_path / "run")
    frozen = {"then": signal.SIGUSR2, "place": tmp_path}
    code, _, err = signalled_at(begun + 60, signal.SIGSTOP, *words, "--grace_s=8", **frozen)
    assert code == 75 and "SIGUSR2: all processes save a checkpoint" in err and "Traceback" not in err, err
    assert "did not end within --grace_s=8 seconds; process 1 of 2 shows no sign of life" in err, err
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "PREEMPTED" and status["step"] == status["checkpoint"] > 0
    begun = last_step(tmp_path / "run")
    code, _, err = signalled_at(begun + 60, signal.SIGSTOP, *words, "--step_timeout=10", place=tmp_path)
    assert code == 1 and "made no step for" in err and "process 1 of 2 shows no sign of life" in err
    code, _, err = launch(*words, cwd=tmp_path)
    assert code == 0 and "going on from step" in err, err
    assert result(tmp_path)["state_digest"] == result(whole)["state_digest"]
    assert result(tmp_path)["metrics"] == result(whole)["metrics"]


@pytest.mark.slow
def test_a_frozen_process_0_ends_with_a_status_and_the_same_command_goes_on(whole: pathlib.Path, tmp_path: pathlib.Path):
    words = ("train", *WORDS, *TWO)
    code, _, err = signalled_at(100, signal.SIGSTOP, *words, "--step_timeout=10", place=tmp_path, of=0)
    assert code == 1 and "the coordinator, which is in process 0, does not answer" in err and "Traceback" not in err, err
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "FAILED" and status["step"] == status["checkpoint"] > 0 and status["attempt"] == 1
    assert "process 1 of 2 made no step for" in status["message"], status["message"]
    assert status["message"].endswith("process 0 did not end by itself and was killed"), status["message"]
    code, _, err = launch(*words, cwd=tmp_path)
    assert code == 0 and f"going on from step {status['step']} of" in err, err
    assert result(tmp_path)["state_digest"] == result(whole)["state_digest"]


def test_the_end_of_a_run_is_written_where_its_process_is_gone_and_left_it_running(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    folder, note = tmp_path / "run", tmp_path / "note"
    (folder / "checkpoints" / "40").mkdir(parents=True)
    (folder / "checkpoints" / "60.tmp").mkdir()
    running = {"state": "RUNNING", "step": 55, "steps": 100, "attempt": 2}
    files.write_record(folder / run_files.STATUS, running)
    assert not ends.record_end(note, "FAILED", "nothing was announced")
    ends.announce(folder)  # without a parent it does nothing
    monkeypatch.setenv(ends.NOTE, str(note))
    ends.announce(folder)
    with locked(folder):
        assert not ends.record_end(note, "FAILED", "another command trains it")
    assert run_files.read_status(folder)["state"] == "RUNNING"
    assert ends.record_end(note, "FAILED", "process 0 was killed by SIGKILL")
    found = run_files.read_status(folder)
    assert found.items() >= {**running, "state": "FAILED", "step": 40, "checkpoint": 40}.items()
    assert not ends.record_end(note, "PREEMPTED", "it is written already") and run_files.read_status(folder) == found


@pytest.mark.slow
def test_fully_sharded_batch_norm_over_two_processes_goes_on_after_ctrl_c_with_the_same_bits(tmp_path: pathlib.Path):
    words = (
        *(
            "train",
            "--experiment=convnet_digits",
            "--dataset=stripes",
            "--dataset.examples=120",
            "--dataset.size=8",
            "--model.widths=8,16",
            "--batch_size=8",
            "--workdir=run",
        ),
        *("--steps=60", "--save_every=10 steps", "--log_every=5 steps", "--strategy=fsdp", *TWO),
    )
    places = [tmp_path / name for name in ("whole", "stopped")]
    for place in places:
        place.mkdir()
    code, _, err = launch(*words, cwd=places[0])
    assert code == 0 and re.search(r"fsdp on 2 cpu devices, f32\nstate on each device: .* split, .* whole", err), err
    code, _, err = signalled_at(20, signal.SIGINT, *words, place=places[1], of=None)
    assert code == 75 and "SIGINT: all processes save a checkpoint" in err, err
    code, _, err = launch(*words, cwd=places[1])
    assert code == 0, err
    assert result(places[0])["state_digest"] == result(places[1])["state_digest"]


@pytest.mark.slow
def test_a_file_that_one_process_alone_misses_ends_both_and_put_back_they_go_on(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for place in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (tmp_path / "pets" / place).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / place / f"{number}.png")
    words = (
        "train",
        "--experiment=linear_digits",
        "--dataset=folder:pets",
        "--resident_mib=0",
        "--batch_size=4",
        "--steps=99999",
    )
    words += (
        "--validation=0",
        "--save_every=10 steps",
        "--log_every=10 steps",
        "--eval_every=99999 steps",
        "--workdir=run",
        *TWO,
    )
    process = start(*words, cwd=tmp_path)
    until = time.monotonic() + 200
    while last_step(tmp_path / "run") < 50 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    (tmp_path / "pets" / "train" / "cat" / "0.png").rename(tmp_path / "away.png")
    code, _, err = finish(process, seconds=200)
    assert code == 3 and "Traceback" not in err and "cat/0.png changed since it was checked" in err, err
    (tmp_path / "away.png").rename(tmp_path / "pets" / "train" / "cat" / "0.png")
    code, _, err = launch(*words, f"--stop_after={last_step(tmp_path / 'run') + 20}", cwd=tmp_path)
    assert code == 0 and "going on from step" in err, err


@pytest.mark.slow
def test_a_peer_that_never_comes_and_a_port_in_use_are_one_line(tmp_path: pathlib.Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        address = (f"--coordinator=127.0.0.1:{port}", "--num_processes=2", "--start_timeout=5")
        for index in (0, 1):
            began = time.monotonic()
            code, _, err = launch("train", *WORDS, *address, f"--process_id={index}", cwd=tmp_path)
            assert code != 0 and time.monotonic() - began < 60
            assert str(port) in err and "Check failure" not in err and "@ 0x" not in err, err
            assert index or (code == 2 and f"process 0 cannot listen on port {port}" in err), err
            assert len(err.strip().splitlines()) <= 4 and "Traceback" not in err, err
    assert not (tmp_path / "run").exists()


def test_a_parent_imports_no_jax():
    code = "import sys, cnnlab.cli.supervise; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_crash_is_never_taken_for_the_cause_of_the_end_of_another_process():
    causes = (*supervise.OURS, -signal.SIGKILL, 1)
    assert max(map(supervise._rank, causes)) < min(map(supervise._rank, supervise.CRASHES))


REFUSED = {
    ("--process_id=1",): "Expected --num_processes=N and --coordinator=HOST:PORT with it",
    ("--coordinator=a:1",): "which process is this",
    ("--num_processes=2", "--process_id=2", "--coordinator=a:1"): "expected 0 to 1 with --num_processes=2",
    ("--num_processes=2", "--process_id=0", "--coordinator=a"): "expected HOST:PORT",
    ("--num_processes=0",): "--num_processes",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_flags_that_do_not_name_a_process_are_refused(words: tuple[str, ...], here):
    code, _, err = here("train", "--experiment=mlp_digits", *words)
    assert code == 2 and REFUSED[words] in err


def test_tasks_of_srun_are_processes_of_a_run(monkeypatch: pytest.MonkeyPatch):
    for name in ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_NODELIST", supervise.CHILD):
        monkeypatch.delenv(name, raising=False)
    assert supervise.of_slurm() is None and not supervise.required(Processes()) and not supervise.required(Processes(1))
    assert supervise.required(Processes(2))
    for name, value in {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_STEP_NODELIST": "n[1-4]"}.items():
        monkeypatch.setenv(name, value)
    assert supervise.of_slurm() == (4, 3) and supervise.required(Processes())
    monkeypatch.setenv(supervise.CHILD, "3")
    assert not supervise.required(Processes(2)), "a process with a parent is no parent"
    monkeypatch.delenv(supervise.CHILD)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert supervise.of_slurm() is None


TPU_SLICE = {"TPU_WORKER_HOSTNAMES": "127.0.0.1,127.0.0.2,127.0.0.3,127.0.0.4", "TPU_WORKER_ID": "2"}
TPU_SLICES = {"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "1", "MEGASCALE_COORDINATOR_ADDRESS": "127.0.0.9:8080"}


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        (TPU_SLICE, ("127.0.0.1:8482", 4, 2)),
        ({**TPU_SLICE, "TPU_PROCESS_ADDRESSES": "127.0.0.5,127.0.0.6"}, ("127.0.0.5:8482", 2, 2)),
        ({**TPU_SLICE, **TPU_SLICES}, ("127.0.0.9:8482", 8, 6)),
        ({"TPU_WORKER_HOSTNAMES": "127.0.0.1", "TPU_WORKER_ID": "0"}, ("127.0.0.1:8482", 1, 0)),
    ],
)
def test_hosts_of_a_tpu_slice_are_processes_of_a_run_as_jax_finds_them(
    variables: dict[str, str], place: tuple[str, int, int], monkeypatch: pytest.MonkeyPatch
):
    """No TPU is here: what jax would derive is asked of the function that jax.distributed.initialize calls."""
    for name in ("SLURM_STEP_NODELIST", "KUBERNETES_SERVICE_HOST", supervise.CHILD, *TPU_SLICE, *TPU_SLICES):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("jax._src.clusters.cloud_tpu_cluster.running_in_cloud_tpu_vm", True)
    monkeypatch.setattr("jax._src.clusters.cluster.running_in_cloud_tpu_vm", True)
    monkeypatch.setattr("jax._src.clusters.cloud_tpu_cluster.get_tpu_env_value_from_metadata", lambda name: None)
    given: list[dict] = []
    monkeypatch.setattr("jax.distributed.initialize", lambda **more: given.append(more))
    monkeypatch.setattr(processes, "_connect_devices", lambda timeout: None)
    before = jax.config.jax_enable_preemption_service
    try:
        processes.start(processes.Group(start_timeout=7))
    finally:
        jax.config.update("jax_enable_preemption_service", before)
    asked = [given[0].pop(name) for name in ("coordinator_address", "num_processes", "process_id")]
    assert asked == [None] * 3 and given == [{"initialization_timeout": 7, "heartbeat_timeout_seconds": 30}]
    found = ClusterEnv.auto_detect_unset_distributed_params(*asked, None, None, 7)
    assert found == (*place, None)
    assert supervise.of_cluster() == (place[1:] if place[1] > 1 else None)
    assert supervise.required(Processes()) == (place[1] > 1)


def test_one_process_agrees_with_itself():
    assert processes.count() == 1 and processes.is_main()
    assert processes.agreed(lambda: {"a": [1.5]}) == {"a": [1.5]}
    assert processes.agreed_state(lambda: None, {}) is None
    leaf = np.float32([1, -0.0])
    assert processes.fetch(leaf) is not leaf and np.signbit(processes.fetch(leaf)[1])


def test_errors_of_a_lost_peer_are_one_line():
    class JaxRuntimeError(RuntimeError):
        pass

    found = of_the_world(JaxRuntimeError("UNKNOWN: Gloo all-reduce failed: Read error\nmore"))
    assert isinstance(found, PeerLost) and "Gloo all-reduce failed: Read error" in str(found)
    assert of_the_world(JaxRuntimeError("INTERNAL: something else")) is None
    with pytest.raises(UsageError, match="--process_id=0"):
        supervise.required(Processes(None, 0))


def test_lines_of_libraries_are_left_out():
    kept = ["step 3/60 (5%)", "error: x", "Error: y", "INFO"]
    noise = [
        "[Gloo] Rank 0 is connected",
        "E1128 11:11:11.123456 1 x.cc:1] bad",
        "    @ 0x7f",
        "*** Check failure stack trace: ***",
    ]
    assert [line for line in [*kept, *noise] if not supervise.NOISE.match(line)] == kept
