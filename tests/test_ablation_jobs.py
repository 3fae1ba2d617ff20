"""Slurm as a study meets it, without one: what is submitted, how often it is asked, and what is made of its answers."""

import dataclasses
import json
import os
import pathlib
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cnnlab import files
from cnnlab.ablation.plan.study import Arm, Study
from cnnlab.ablation.run import runs, scheduler, slurm, slurm_queue
from cnnlab.ablation.run.command import Batching, worker_command
from cnnlab.ablation.run.options import parse_options, typed
from cnnlab.ablation.run.scheduler import Scheduling
from cnnlab.ablation.run.slurm_script import JobOptions, batch_script, job_options, minutes_of, planned_minutes
from cnnlab.cli.groups import Devices
from cnnlab.cli.launchers import Launcher, planned_strategy
from cnnlab.errors import UsageError

PARTITIONS = "debug*|1:00:00\ngpu|2-00:00:00\nlong|infinite\n"


def options(*texts: str) -> JobOptions:
    return job_options(parse_options(texts))


class FakeSlurm:
    """Answers as Slurm's programs do. A job does what the next of `acts` says, when squeue is asked for the first time."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.calls, self.jobs = folder, [], {}
        self.refusals: list[str] = []
        """What sbatch writes instead of taking the next jobs."""
        self.acts: list[str] = []
        self.silent = 0
        """How often squeue fails from now on."""
        self.test_only = (0, "sbatch: Job 7 to start at 2026-11-28T15:00:00 using 1 processors on nodes c1 in partition debug")

    def __call__(self, words: Sequence[str], text: str | None = None) -> tuple[int, str, str]:
        self.calls.append((*words, text))
        answer: Callable[..., tuple[int, str, str]] = getattr(self, words[0])
        return answer(words[1:])

    def named(self, program: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] == program]

    def sinfo(self, words: Sequence[str]) -> tuple[int, str, str]:
        return 0, PARTITIONS, ""

    def sbatch(self, words: Sequence[str]) -> tuple[int, str, str]:
        if "--test-only" in words:
            return self.test_only[0], "", self.test_only[1]
        if self.refusals:
            reason = self.refusals.pop(0)
            if reason == "taken":  # the job is there, and the answer is lost
                self._take(words[-1])
            return 1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"
        return 0, f"{self._take(words[-1])}\n", ""

    def _take(self, script: str) -> str:
        job = str(100 + len(self.jobs))
        content = pathlib.Path(script).read_text(encoding="utf-8")
        (comment,) = re.findall("#SBATCH --comment=(.*)", content)
        self.jobs[job] = {"state": "PENDING", "comment": comment, "act": self.acts.pop(0) if self.acts else "good"}
        self.jobs[job]["words"] = shlex.split(content.splitlines()[-1])
        return job

    def squeue(self, words: Sequence[str]) -> tuple[int, str, str]:
        if self.silent:
            self.silent -= 1
            return 1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
        if any(word.startswith("--user") for word in words):
            alive = {job: one for job, one in self.jobs.items() if one["state"] in ("PENDING", "RUNNING")}
            return 0, "".join(f"{job}|{one['comment']}\n" for job, one in alive.items()), ""
        lines = []
        for job, one in self.jobs.items():
            if one["state"] == "PENDING":
                self._act(one)
            code, used = one.get("code", 0), one.get("used", "0:10")
            lines.append(f"{job} {one['state']} {code << 8} {used} 1:00:00 ({one.get('reason', 'None')})")
        return 0, "\n".join(lines), ""

    def scancel(self, words: Sequence[str]) -> tuple[int, str, str]:
        self.jobs[words[-1]] |= {"state": "CANCELLED"}
        return 0, "", ""

    def _act(self, job: dict[str, Any]) -> None:
        act, status_file = job["act"], pathlib.Path(job["comment"])
        if act.startswith("wait:"):
            job["waited"] = job.get("waited", 0) + 1  # for some calls of squeue
            job |= {"reason": act.removeprefix("wait:"), "act": act if job["waited"] < 9 else "good"}
            return
        study = runs.load_study(self.folder)
        (numbers,) = [word.partition("=")[2] for word in job["words"] if word.startswith("--runs=")]
        everything = list(runs.study_runs(study, self.folder))
        left = [everything[int(number)] for number in numbers.split(",") if everything[int(number)].state != "DONE"]
        process = f"process of {status_file.name}"
        training, reached = [], 0
        for one in left:
            attempt = 1 + one.status.get("attempt", 0)
            if act == "good":
                files.make_folder(one.folder)
                files.write_json(one.folder / "result.json", {})
                content = {"state": "DONE", "attempt": attempt, "process": process, "step": 9}
                files.write_json(one.folder / "status.json", content)
                continue
            training = [str(one.folder)]
            if "at step" in act:
                reached = int(act.rpartition(" ")[2])
                content = {"state": "PREEMPTED", "attempt": attempt, "process": process, "step": reached, "checkpoint": reached}
                files.make_folder(one.folder)
                files.write_json(one.folder / "status.json", content)
            break
        files.write_json(status_file, {"process": process, "runs": training, "ended": len(left) - len(training)})
        ends = {
            "good": {"state": "COMPLETED"},
            "time limit": {"state": "FAILED", "code": 75, "used": "58:40"},
            "hang": {"state": "TIMEOUT", "used": "1:00:05"},
            "cancelled": {"state": "CANCELLED"},
            "node fails": {"state": "NODE_FAIL"},
        }
        job |= ends[act.partition(" at step")[0]]


@pytest.fixture
def cluster(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A fake Slurm, a study of two runs, and no pauses."""
    arms = tuple(Arm(f"arm {number}", {}, folder=f"a{number}", group=number) for number in range(2))
    study = Study(name="stub", experiment="none", knobs={}, design="grid", arms=arms, seeds=(0,), factors={})
    fake = FakeSlurm(tmp_path / "study")
    runs.save_study(study, fake.folder)
    monkeypatch.setattr(slurm_queue, "ask", fake)
    monkeypatch.setattr(slurm_queue, "SHORTEST_SECONDS", 0.0)
    monkeypatch.setattr(slurm_queue, "LONGEST_SECONDS", 0.0)
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(scheduler, "RETRY_SECONDS", (0.005, 0.01))
    monkeypatch.setattr(scheduler, "PAUSE_SECONDS", 0.0)
    return fake


def trained(fake: FakeSlurm, *texts: str, **more: Any) -> int:
    """The exit code of the study."""
    study = runs.load_study(fake.folder)

    def command(numbers: Sequence[int]) -> list[str]:
        return ["python", "work", f"--runs={','.join(map(str, numbers))}"]

    return slurm.run_on_slurm(study, fake.folder, command, Scheduling(**more), options=options(*texts))


def statuses(fake: FakeSlurm) -> list[tuple[str, int]]:
    """(state, attempt) of every run."""
    study = runs.load_study(fake.folder)
    return [(one.state, one.status.get("attempt", 0)) for one in runs.study_runs(study, fake.folder)]


def test_jobs_that_reach_their_limit_without_a_step_count_as_attempts(cluster: FakeSlurm, capsys: pytest.CaptureFixture[str]):
    cluster.acts = ["time limit", "good"]
    assert trained(cluster) == 1
    assert statuses(cluster) == [("FAILED", 1), ("DONE", 1)] and len(cluster.jobs) == 2
    said = capsys.readouterr().err
    assert "Slurm job 100 reached its time limit of 1 h 00 min, and the attempt got no further than the first step" in said
    assert f"log in {cluster.folder / 'logs' / 'worker_0.txt'}" in said

    cluster.acts = ["hang", "hang", "hang"]
    assert trained(cluster, max_attempts=2) == 1
    assert statuses(cluster) == [("FAILED", 3), ("DONE", 1)] and len(cluster.jobs) == 4
    assert "Slurm job 102 reached its time limit of 1 h 00 min" in capsys.readouterr().err


def test_a_run_that_gets_on_at_every_time_limit_goes_on(cluster: FakeSlurm, capsys: pytest.CaptureFixture[str]):
    cluster.acts = ["time limit at step 3", "time limit at step 6", "cancelled at step 7", "node fails", "good"]
    assert trained(cluster) == 0
    assert statuses(cluster) == [("DONE", 4), ("DONE", 1)]
    said = capsys.readouterr().err
    assert "Slurm job 100 reached its time limit of 1 h 00 min; arm 0, seed 0 goes on from step 3" in said
    assert "Slurm job 102 was cancelled, not by this launcher; arm 0, seed 0 goes on from step 7" in said
    assert "Slurm job 103 NODE_FAIL, exit code 0; arm 0, seed 0 goes on from step 7" in said


def test_a_cancelled_job_that_got_no_further_fails_its_run(cluster: FakeSlurm):
    cluster.acts = ["cancelled at step 3", "cancelled at step 3", "good"]
    assert trained(cluster) == 1
    assert statuses(cluster) == [("FAILED", 2), ("DONE", 1)]


def test_passing_failures_of_the_scheduler_are_waited_for(cluster: FakeSlurm, capsys: pytest.CaptureFixture[str]):
    cluster.refusals, cluster.acts, cluster.silent = ["refused"] * 4, ["wait:Resources"], 1
    assert trained(cluster, jobs=2) == 0
    assert statuses(cluster) == [("DONE", 1)] * 2
    said = capsys.readouterr().err
    assert "Slurm does not take a job now: Batch job submission failed: Socket timed out on send/recv operation" in said
    assert "No more workers" not in said and len(cluster.named("sbatch")) == 6

    (cluster.folder.parent / "a0" / "seed_0" / "result.json").unlink()  # it has to be measured again
    cluster.refusals, cluster.acts = [], ["wait:PartitionTimeLimit"]
    cluster.silent = 3
    assert trained(cluster) == 0
    said = capsys.readouterr().err
    assert "Slurm does not answer: slurm_load_jobs error: Unable to contact slurm controller (connect failure)" in said


def test_a_job_that_sbatch_took_without_an_answer_is_not_submitted_twice(cluster: FakeSlurm):
    cluster.refusals = ["taken"]
    assert trained(cluster) == 0
    assert statuses(cluster) == [("DONE", 1)] * 2 and list(cluster.jobs) == ["100"]


def test_why_jobs_wait_is_said_in_words_and_where_their_logs_are(cluster: FakeSlurm, capsys: pytest.CaptureFixture[str]):
    cluster.acts = ["wait:PartitionTimeLimit"]
    assert trained(cluster) == 0
    said = capsys.readouterr().err
    reason = "PartitionTimeLimit: they ask for more time than their partition allows; give a smaller time="
    assert f"Slurm jobs wait: {reason}." in said
    assert f"Slurm job 100; its log is {cluster.folder / 'logs' / 'worker_0.txt'}" in said
    down = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
    seen = slurm_queue.read_listing(f"12  PENDING  0  0:00  1-00:00:00  ({down})\n13 FAILED 19200 2:03:04 UNLIMITED None\n")
    assert seen["12"].why.endswith("the nodes that they need are down, drained or reserved (sinfo -R says why)")
    assert seen["12"].limit == 86400 and seen["13"] == slurm_queue.Seen("FAILED", 75, 7384.0, None, "None")


def test_jobs_of_an_earlier_launcher_are_taken_over_and_count(cluster: FakeSlurm, capsys: pytest.CaptureFixture[str]):
    logs = files.make_folder(cluster.folder / "logs")
    files.write_json(logs / "worker_0.json", {})
    words = "python work --runs=0,1"
    (logs / "worker_0.sh").write_text(f"#SBATCH --comment={logs / 'worker_0.json'}\nsrun {words}\n", encoding="utf-8")
    cluster.acts = ["wait:Priority"]
    cluster._take(str(logs / "worker_0.sh"))
    assert trained(cluster) == 0
    assert list(cluster.jobs) == ["100"], "with --jobs=1 there is one job"
    assert "Slurm job 100 of an earlier launcher goes on" in capsys.readouterr().err
    assert [call[0] for call in cluster.calls] == ["sinfo", "squeue", *["squeue"] * (len(cluster.calls) - 2)]


def test_a_refused_first_job_ends_the_study_with_the_reason(cluster: FakeSlurm, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        cluster, "sbatch", lambda words: (1, "", "sbatch: error: Invalid account or account/partition combination")
    )
    with pytest.raises(UsageError, match="Slurm did not take the job: Invalid account or account/partition combination"):
        trained(cluster)


def test_squeue_is_asked_once_for_all_jobs_and_ever_more_seldom(monkeypatch: pytest.MonkeyPatch):
    now, asked = [0.0], []

    def ask(words: Sequence[str], text: str | None = None) -> tuple[int, str, str]:
        asked.append((now[0], words))
        return 0, "1 PENDING 0 0:00 1:00:00 (Priority)\n2 PENDING 0 0:00 1:00:00 (Priority)\n", ""

    monkeypatch.setattr(slurm_queue, "ask", ask)
    queue = slurm_queue.Queue(lambda text: None, clock=lambda: now[0])
    queue.add("1")
    queue.add("2")
    for second in range(600):
        now[0] = float(second)
        queue.seen("1"), queue.seen("2")
    times = [time for time, _ in asked]
    assert times[:5] == [5, 15, 35, 75, 135] and len(times) < 14
    assert "--jobs=1,2" in asked[0][1]


def test_the_script_holds_any_flag_of_sbatch_and_the_set_up_lines(tmp_path: pathlib.Path):
    chosen = options(
        "partition=gpu", "exclude=n1", "n2", "gpus-per-node=1", "exclusive=true", "setup=module load a", "b",
        "setup=conda activate cnn", "nodes=2", "signal=TERM@120", "time=1:30:00",
    )  # fmt: skip
    about = {"name": "s", "minutes": 30, "log": tmp_path / "w.txt", "comment": "c", "place": tmp_path}
    text = batch_script(chosen, ["python", "work", "--workdir=a b"], **about)
    for flag in ("partition=gpu", "exclude=n1,n2", "gpus-per-node=1", "exclusive", "nodes=2", "signal=TERM@120", "requeue",
                 "time=1:30:00", "open-mode=append", f"output={tmp_path / 'w.txt'}"):  # fmt: skip
        assert f"#SBATCH --{flag}\n" in text, text
    assert "\nmodule load a,b || " in text and text.index("module load") < text.index("\nconda activate cnn || ")
    assert text.rstrip().endswith("python work '--workdir=a b'") and "\nsrun --kill-on-bad-exit=1 " in text
    plain = batch_script(options("requeue=false"), ["python"], **about)
    assert "#SBATCH --time=30\n" in plain and "signal=TERM@90" in plain and "--requeue" not in plain


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["gpu"], "--launcher_options=gpu: expected KEY=VALUE"),
        (["partition=a", "partition=b"], "partition is given twice: a and b. Keep one of them."),
        (["time=long"], "--launcher_options=time=long: this is no time limit"),
        (["time=1"], "a job of time=1 (1 min) has to save and end 90 s before that, hence at once."),
        (["signal=USR1@60"], "a worker saves and ends at SIGTERM"),
        (["output=x"], "the launcher sets this flag of sbatch itself"),
        (["Partition=gpu"], "expected a long flag of sbatch"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(texts: list[str], words: str):
    with pytest.raises(UsageError, match=re.escape(words)):
        options(*texts)


def test_times_are_those_of_sbatch_and_the_plan_sets_one_with_a_margin():
    assert [minutes_of(text) for text in ("90", "1:30", "1:30:00", "1-0", "1-2:30", "2-00:00:30")] == [
        90, 1.5, 90, 1440, 1590, 2880.5,
    ]  # fmt: skip
    assert planned_minutes(3600, 2) == 3 * 30 + 10 and planned_minutes(0, 1) == 10
    assert planned_minutes(1e6, 1) == 24 * 60 and planned_minutes(1e6, 1, most=60) == 60
    assert typed(parse_options(["num_cpus=2", "num_gpus=0.5", "address=a:1"])) == {
        "num_cpus": 2, "num_gpus": 0.5, "address": "a:1",
    }  # fmt: skip


def test_a_plan_asks_slurm_whether_it_would_take_the_jobs(cluster: FakeSlurm):
    study, how = runs.load_study(cluster.folder), Scheduling(2, planned_seconds=3600)
    said = slurm.check_slurm(study, cluster.folder, how, options=options())
    assert said.startswith("Slurm: 2 jobs at once with time=60 (minutes: 3 times the plan's estimate and 10 more"), (
        "no more than the default partition allows"
    )
    assert "sbatch answers: Job 7 to start at" in said and not (cluster.folder / "logs").exists()
    assert "time=100 " in slurm.check_slurm(study, cluster.folder, how, options=options("partition=gpu"))
    cluster.test_only = 1, "allocation failure: Required node not available (down, drained or reserved)"
    assert "would not start them now: allocation failure" in slurm.check_slurm(study, cluster.folder, how, options=options())
    cluster.test_only = 1, "sbatch: unrecognized option '--gpu=1'\nTry \"sbatch --help\" for more information\n"
    with pytest.raises(UsageError, match=r"sbatch refuses the jobs of this study: unrecognized option '--gpu=1'.\n--launcher_"):
        slurm.check_slurm(study, cluster.folder, how, options=options("gpu=1"))
    cluster.test_only = (
        1,
        "sbatch: error: invalid partition specified: gpus\nallocation failure: Invalid partition name specified",
    )
    with pytest.raises(
        UsageError, match=r"Invalid partition name specified.\nPartitions here: debug, gpu, long. Did you mean gpu?"
    ):
        slurm.check_slurm(study, cluster.folder, how, options=options("partition=gpus"))


@pytest.mark.parametrize("strategy", ["jit", "fsdp"])
def test_devices_that_only_the_jobs_have_are_planned_with_and_refused_for_workers_here(strategy: Any):
    devices, elsewhere = Devices(strategy, devices=64), Launcher(slurm.run_on_slurm, lambda *_: "", is_elsewhere=True)
    planned = planned_strategy(devices, elsewhere)
    assert len(planned.devices) == 64 and planned.name == strategy
    with pytest.raises(UsageError, match="--devices=64"):
        planned_strategy(devices, dataclasses.replace(elsewhere, is_elsewhere=False))


def test_programs_of_slurm_are_asked_without_the_variables_of_a_job(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho $SLURM_JOB_ID $SLURM_CONF $OTHER; exit 3\n", encoding="utf-8")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name, value in {"SLURM_JOB_ID": "1", "SLURM_CONF": "conf", "OTHER": "x"}.items():
        monkeypatch.setenv(name, value)
    assert slurm_queue.ask(["sbatch"]) == (3, "conf x\n", "")
    assert slurm_queue.ask(["no_such_program"]) == (1, "", "no_such_program: No such file or directory")


def test_a_machine_without_slurm_gets_a_clear_error(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="this machine has no sbatch, squeue, scancel, srun"):
        slurm.require_slurm()


def test_workers_share_the_members_of_a_group_that_train_together(tmp_path: pathlib.Path):
    arms = tuple(Arm(f"arm {number}", {}, folder=f"a{number}", group=number // 3) for number in range(6))
    study = Study(name="stub", experiment="none", knobs={}, design="grid", arms=arms, seeds=(0, 1), factors={})

    def batched(numbers: Sequence[int], jobs: int) -> str:
        words = worker_command(numbers, study=study, folder=tmp_path, batching=Batching(), jobs=jobs)
        return next(word for word in words if word.startswith("--max_batched_runs"))

    assert batched([0, 1, 2, 6, 7, 8], 2) == "--max_batched_runs=3", "one group of six for two workers"
    assert batched(range(12), 2) == "--max_batched_runs=32", "a group each"
    assert batched([0], 4) == "--max_batched_runs=1"


def test_the_job_is_named_in_a_runs_status(monkeypatch: pytest.MonkeyPatch):
    from cnnlab.runs.run_files import cluster_job

    for name in ("CNNLAB_JOB", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    assert cluster_job() is None
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert cluster_job() == "Slurm job 12"
    monkeypatch.setenv("CNNLAB_JOB", "Ray actor 7 on n1")
    assert cluster_job() == "Ray actor 7 on n1" and json.dumps(cluster_job())
