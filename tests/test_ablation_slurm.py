"""A study on a private Slurm of one node: killed and requeued jobs cost time, not runs."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
from commands import finish, launch, read, start
from test_ablation_scheduler import STUDY, assert_each_step_once, found_statuses, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000
PartitionName=debug Nodes={host} Default=YES State=UP
"""
"""Without a data base, control groups or MPI. A requeued job waits until its credential has expired: 10 s, not 120."""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def slurm_says(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture
def slurm(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Slurm of our own, with a munge of its own."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install --no-install-recommends slurm-wlm munge")
    if os.geteuid() != 0 or os.cpu_count() == 1:
        pytest.skip("starting a private Slurm takes root and two cores")
    folder = tmp_path / "slurm"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    controller_port, node_port = free_ports(2)
    host = socket.gethostname().partition(".")[0]
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(host=host, folder=folder, controller_port=controller_port, node_port=node_port), encoding="utf-8"
    )
    monkeypatch.setenv("SLURM_CONF", str(configuration))
    places = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munged.pid"}
    places |= {"log-file": folder / "munged.log", "seed-file": folder / "munge.seed"}
    try:
        slurm_says("munged", "--force", *(f"--{name}={path}" for name, path in places.items()))
        slurm_says("slurmctld", "-f", str(configuration))
        slurm_says("slurmd", "-f", str(configuration))
        for _ in range(150):
            answer = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False).stdout
            if answer.strip() == "idle":
                break
            time.sleep(0.2)
        else:
            pytest.skip(f"Slurm does not start here: {(folder / 'slurmctld.log').read_text(encoding='utf-8')[-2000:]}")
        yield
    finally:
        subprocess.run(["scancel", "--state=PENDING", "--user=root"], capture_output=True, check=False)
        subprocess.run(["scancel", "--signal=KILL", "--full", "--user=root"], capture_output=True, check=False)
        for name in ("slurmd", "slurmctld", "munged"):
            if (pid_file := folder / f"{name}.pid").exists():
                os.kill(int(pid_file.read_text(encoding="utf-8")), signal.SIGTERM)


@pytest.mark.slow
def test_study_of_twelve_runs_survives_a_killed_and_a_requeued_job(tmp_path: pathlib.Path, slurm: None):
    launcher = start(
        *STUDY,
        "--vary=optimizer.lr:0.1,0.03,0.02,0.01",
        "--seeds=3",
        "--steps=30",
        "--pause=0.2",
        "--save_every=2 steps",
        "--jobs=2",
        "--max_attempts=2",
        "--launcher=slurm",
        "--launcher_options=cpus_per_task=1,time=30",
        "--launcher_options=setup=export MARK=of-the-set-up",
        cwd=tmp_path,
    )

    def at_work(last: int) -> list[tuple[int, str]]:
        """(process, run) of the runs that are at a step from 5 to `last`."""
        found = found_statuses(tmp_path).items()
        return [(int(s["process"].split()[1]), run) for run, s in found if s["state"] == "RUNNING" and 5 <= s["step"] <= last]

    # Of 30 steps these are more than half, so that two runs meet there whatever their pace.
    (process, killed), _ = wait_until(lambda: found if len(found := at_work(25)) == 2 else None, launcher)
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: found_statuses(tmp_path)[killed]["state"] == "FAILED", launcher)

    def busy_job() -> tuple[str, str] | None:
        """(Slurm job, run) of another run in the midst of it."""
        for process, run in at_work(20):
            if run == killed:
                continue
            for job in slurm_says("squeue", "-h", "-t", "RUNNING", "-o", "%i").split():
                environment = environment_of(process)
                if environment.get("SLURM_JOB_ID") == job:
                    assert environment["MARK"] == "of-the-set-up"
                    return job, run
        return None

    job, requeued = wait_until(busy_job, launcher)
    slurm_says("scontrol", "requeue", job)
    wait_until(lambda: found_statuses(tmp_path)[requeued]["state"] == "PREEMPTED", launcher)
    saved = found_statuses(tmp_path)[requeued]["step"]
    assert saved >= 5
    assert "Restarts=1" in wait_until(
        lambda: said if "Restarts=1" in (said := slurm_says("scontrol", "show", "job", job)) else None, launcher
    )

    code, out, err = finish(launcher)
    assert code == 0, out + err
    assert re.search(
        r"FAILED .*: its process ended without an error message: Slurm job .*\n  it is tried again; log in .*worker_\d.txt", err
    ), err
    found = found_statuses(tmp_path)
    assert len(found) == 12 and {status["state"] for status in found.values()} == {"DONE"}
    assert {run: status["attempt"] for run, status in found.items() if status["attempt"] != 1} == {killed: 2, requeued: 2}
    assert_each_step_once(tmp_path, runs=12, steps=30)
    (its_log,) = re.findall(f"Slurm job {job}; its log is (.*)", err)
    # The other worker may have taken the run while the job waited in the queue.
    logs = [path.read_text(encoding="utf-8") for path in (tmp_path / its_log).parent.glob("worker_*.txt")]
    assert any(f"going on from step {saved} of 30 in runs/{requeued}" in log for log in logs), logs
    first, second = (one["job"] for one in read(tmp_path / "runs" / requeued / "run.json")["attempts"])
    assert first == f"Slurm job {job}"
    assert second in re.findall(r"(Slurm job \d+); its log is", err)
    assert slurm_says("squeue", "-h") == ""


def environment_of(process: int) -> dict[str, str]:
    """The environment that a process was started with; {} where it is gone."""
    try:
        words = pathlib.Path(f"/proc/{process}/environ").read_text(encoding="utf-8").split("\0")
    except OSError:
        return {}
    return dict(word.partition("=")[::2] for word in words if word)


@pytest.mark.slow
def test_ctrl_c_ends_the_jobs_with_a_checkpoint(tmp_path: pathlib.Path, slurm: None):
    words = [*STUDY, "--vary=optimizer.lr:0.1,0.01", "--seeds=1", "--steps=200", "--pause=0.2", "--launcher=slurm"]
    launcher = start(*words, cwd=tmp_path)
    wait_until(lambda: [s for s in found_statuses(tmp_path).values() if s["step"] >= 3], launcher)
    launcher.send_signal(signal.SIGINT)
    code, out, err = finish(launcher, seconds=120)
    assert code == 130, out + err
    assert "1 preempted, 1 not begun. The same command goes on" in err
    (status,) = found_statuses(tmp_path).values()
    assert status["state"] == "PREEMPTED" and status["step"] >= 3
    assert slurm_says("squeue", "-h") == ""


@pytest.mark.slow
def test_a_run_in_two_tasks_of_a_job_is_asked_to_end_goes_on_and_equals_the_run_in_one(tmp_path: pathlib.Path, slurm: None):
    words = [*STUDY, "--vary=optimizer.lr:0.1", "--seeds=1", "--steps=30", "--save_every=5 steps", "--batch_size=32"]
    options = "--launcher_options=ntasks=2,overcommit=true,time=30"
    code, out, err = launch(*words, "--launcher=slurm", "--devices=2", options, "--dry_run", cwd=tmp_path)
    assert code == 0 and "Slurm: 1 job at once with time=30; sbatch answers: Job" in out, out + err
    assert not (tmp_path / "runs").exists()
    code, _, err = launch(*words, "--launcher=slurm", "--launcher_options=partition=debgu", "--dry_run", cwd=tmp_path)
    assert code == 2 and "Partitions here: debug. Did you mean debug?" in err, err

    launcher = start(*words, "--pause=0.2", "--launcher=slurm", "--devices=2", options, cwd=tmp_path)
    wait_until(lambda: [s for s in found_statuses(tmp_path).values() if s["step"] >= 3], launcher)
    launcher.send_signal(signal.SIGINT)
    code, out, err = finish(launcher, seconds=120)
    assert code == 130, out + err
    (status,) = found_statuses(tmp_path).values()
    assert status["state"] == "PREEMPTED" and status["checkpoint"] == status["step"] >= 3
    code, out, err = launch(*words, "--pause=0.2", "--launcher=slurm", "--devices=2", options, cwd=tmp_path)
    assert code == 0, out + err
    ((run, status),) = found_statuses(tmp_path).items()
    assert status["state"] == "DONE" and status["attempt"] == 2 and status["job"].startswith("Slurm job ")
    assert len(read(tmp_path / "runs" / run / "run.json")["attempts"][-1]["devices"]) == 2
    assert_each_step_once(tmp_path, runs=1, steps=30)
    assert slurm_says("squeue", "-h") == ""
