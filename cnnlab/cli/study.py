"""Verbs of studies: ablate, work, report, reproduce."""

import dataclasses
import functools
import pathlib
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnnlab import files, home
from cnnlab.ablation.plan.request import Comparison, DesignRequest, PruningRequest
from cnnlab.ablation.plan.study import Study
from cnnlab.ablation.run.command import Batching, worker_command
from cnnlab.cli import supervise
from cnnlab.cli.common import announce_code, load, resolve, run_spec, seeds_from
from cnnlab.cli.groups import Console, Devices, Launching, Length, Limits, Memory, Pace, Processes, as_words
from cnnlab.cli.launchers import Launcher, launcher, planned_strategy
from cnnlab.cli.train import join
from cnnlab.errors import UsageError
from cnnlab.runs import run_files
from cnnlab.runs.catalogue import experiment_files
from cnnlab.values import Count, PathText, Target

if TYPE_CHECKING:
    from cnnlab.ablation.plan.check import CheckedArm, Estimate
    from cnnlab.ablation.run.scheduler import Scheduling
    from cnnlab.core import Strategy
    from cnnlab.runs.experiments import ExperimentFile


def ablate(
    values: dict[str, str],
    /,
    *,
    experiment: str | None = None,
    workdir: Target | None = None,
    allow: tuple[str, ...] = (),
    budget_minutes: Count | None = None,
    dry_run: bool = False,
    design: DesignRequest,
    comparison: Comparison,
    pruning: PruningRequest,
    launching: Launching,
    batching: Batching,
    length: Length,
    devices: Devices,
    memory: Memory,
    limits: Limits,
    pace: Pace,
    console: Console,
) -> int:
    """Plans, runs and reports a study: many runs that differ by design, compared with statistics.

    Args:
        values: the knobs that all arms share.
        experiment: name of a file in experiments/, or the path of a .py file of your own.
        workdir: folder of the study; none: runs/study-EXPERIMENT-HASH.
        allow: differences to accept between runs, or since they were begun, of data, splits, steps, code, weights, log_every,
            skip_nonfinite.
        budget_minutes: refuse a study that is estimated to take more minutes.
        dry_run: check, plan and ask the launcher whether it would start workers, but run nothing.
        design: what to vary.
        comparison: what is compared, and over which seeds.
        pruning: how worse arms are stopped early.
        launching: who trains the runs.
        batching: how runs that share a compilation are trained.
        length: how long to train.
        devices: on what runs are trained.
        memory: what a step keeps in memory.
        limits: how long a run may hang.
        pace: how often they are logged, evaluated and saved.
        console: what is shown.
    """
    trainer = launcher(launching, batching, devices)
    loaded = load(experiment, values, devices)
    common = resolve(loaded, values, length)
    from cnnlab.ablation import commands
    from cnnlab.ablation.plan import declaration

    given, words = {**values, **length.knobs()}, [*as_words([devices, memory, limits, pace]), *accepted_words(allow)]
    study = commands.study_from_flags(design, loaded, common, given, words, comparison, precision=devices.number_format)
    study, declared = declaration.follow_declaration(study, loaded, pruning.prune, exploratory=comparison.exploratory)
    study, found, folder = plan(study, loaded, workdir, allow, pruning, planned_strategy(devices, trainer), pace)
    verdict = rule_of(study, loaded, design)
    need = show_plan(study, found, folder, budget_minutes)
    scheduling = scheduling_of(launching, limits, console, planned_seconds=need.training_seconds)
    print(trainer.check(study, folder, scheduling) if need.runs else "", end="", flush=True)
    if dry_run:
        return 0
    return reported(run_study(study, folder, trainer, batching, scheduling, declared), study, folder, allow, verdict)


def reported(code: int, study: Study, folder: pathlib.Path, allow: Sequence[str], verdict: Any) -> int:
    """Writes and shows the report of a study that was carried out; returns its exit code, which may say that it was not."""
    from cnnlab.ablation import commands

    if code in (0, 1):
        show_report(commands.write_study_report(study, folder, allow=allow, verdict=verdict), study, folder)
    return code


def accepted_words(allow: Sequence[str]) -> list[str]:
    """Returns the flag with which workers go on with runs whose code, data or weights changed, where that is accepted."""
    from cnnlab.runs.identity import ALLOWED  # imports NumPy, which --help does without

    accepted = sorted({*allow} & {*ALLOWED})
    return [f"--allow={','.join(accepted)}"] if accepted else []


def plan(
    study: Study,
    loaded: "ExperimentFile",
    workdir: Target | None,
    allow: Sequence[str],
    pruning: PruningRequest,
    strategy: "Strategy",
    pace: Pace,
) -> tuple[Study, list["CheckedArm"], pathlib.Path]:
    """Returns (the study as it will run, its arms as checked, its folder)."""
    from cnnlab.ablation import commands

    seeds_from(study.seeds[0], len(study.seeds))
    if workdir:
        run_files.require_study_folder(pathlib.Path(workdir))
    above = pathlib.Path(workdir).parent if workdir else pathlib.Path("runs")
    study, found = commands.plan_study(study, loaded, strategy, above, allow=allow)
    study = commands.add_rungs(
        study, found, pruning.prune, pace.eval_every, factor=pruning.prune_factor, start=pruning.prune_from
    )
    return study, found, pathlib.Path(workdir or above / f"study-{study.name}-{commands.study_digest(study)}")


def rule_of(study: Study, loaded: "ExperimentFile", design: DesignRequest) -> Any:
    """Returns the verdict rule of the experiment's own study; None where the command line varies something else.

    Raises UsageError where the rule compares a number that the arms do not have.
    """
    from cnnlab.ablation import commands

    verdict = None if design.vary or design.toggle else getattr(loaded.study, "verdict", None)
    commands.require_compared(study, verdict)
    return verdict


def show_plan(study: Study, found: Sequence["CheckedArm"], folder: pathlib.Path, budget_minutes: int | None) -> "Estimate":
    """Prints what a study will do; returns what that needs. Raises UsageError where that takes longer than its budget."""
    from cnnlab.ablation import commands
    from cnnlab.ablation.report.plan_text import describe_study

    need = commands.estimate_remaining(study, found, folder)
    print(describe_study(study, need, folder), flush=True)
    if budget_minutes and need.seconds > 60 * budget_minutes:
        raise UsageError(f"--budget_minutes={budget_minutes}: the study takes longer. Take fewer arms, seeds or --steps.")
    return need


def scheduling_of(launching: Launching, limits: Limits, console: Console, *, planned_seconds: float) -> "Scheduling":
    """Returns how runs are spread that the plan takes so many seconds for, without compilation."""
    from cnnlab.ablation.run.scheduler import STEP_SECONDS, Scheduling

    # A worker elsewhere looks at itself, and its files may be seen much later here.
    step_timeout = limits.step_timeout or STEP_SECONDS if launching.launcher == "local" else None
    common = launching.jobs, launching.max_attempts, launching.fail_fast, console.quiet
    return Scheduling(*common, planned_seconds=planned_seconds, step_timeout=step_timeout)


def run_study(
    study: Study,
    folder: pathlib.Path,
    trainer: Launcher,
    batching: Batching,
    scheduling: "Scheduling",
    declared: dict[str, Any] | None,
) -> int:
    """Keeps the declaration of a planned study and trains what is left of it; returns the exit code."""
    from cnnlab.ablation.plan.declaration import keep_declaration
    from cnnlab.ablation.run import runs
    from cnnlab.runs.lock import locked

    keep_declaration(folder, study, declared)
    files.make_folder(folder)
    with locked(folder):
        runs.write_owner(folder)
        study = runs.save_study(study, folder)
        command = functools.partial(worker_command, study=study, folder=folder, batching=batching, jobs=scheduling.jobs)
        return trainer.run(study, folder, command, scheduling)


def work(
    *,
    workdir: Target | None = None,
    runs: tuple[int, ...] = (),
    status_file: Target | None = None,
    parent: int | None = None,
    watched: bool = False,
    cores: tuple[int, ...] = (),
    allow: tuple[str, ...] = (),
    batching: Batching,
    devices: Devices,
    memory: Memory,
    processes: Processes,
    limits: Limits,
    pace: Pace,
    console: Console,
) -> int:
    """Trains some runs of a study in this process (started by a launcher).

    Args:
        workdir: folder of the study.
        runs: numbers of the runs to train; none given: all.
        status_file: the file in which the worker records which runs it trains.
        parent: number of the process with which the worker ends.
        watched: leave --step_timeout to the launcher, which looks at the heartbeat and counts a worker that hangs as it counts
            others that it ends.
        cores: the cores that the worker uses.
        allow: what may have changed since the runs were begun, of code, data, weights.
        batching: how runs that share a compilation are trained.
        devices: on what runs are trained.
        memory: what a step keeps in memory.
        processes: several processes that train each run together, such as the tasks of a Slurm job.
        limits: how long a run may hang.
        pace: how often they are logged, evaluated and saved.
        console: what is shown.
    """
    from cnnlab.ablation.run import local
    from cnnlab.ablation.run import runs as study_runs

    if not workdir:
        raise UsageError("work on what? Give --workdir=FOLDER of a study.")
    if supervise.required(processes):
        return supervise.run_supervised(processes, pace.grace_s)
    console = join(processes, limits, devices, pace, console)
    local.bind_to_parent(parent, cores)
    folder = pathlib.Path(workdir)
    study = study_runs.load_study(folder)
    loaded = load(study.experiment, {}, devices)
    from cnnlab.ablation.run.worker import resolver, run_worker

    spec = run_spec(loaded, loaded.resolve(study.knobs), devices, console, pace, memory, allow=allow)
    place = pathlib.Path(status_file) if status_file else None
    spec = dataclasses.replace(spec, step_timeout=None if watched else limits.step_timeout, heartbeat=place)
    everything = list(study_runs.study_runs(study, folder))
    chosen = [everything[number] for number in runs] if runs else everything
    targets = study_runs.Targets(study, everything) if study.pruning else None
    run_worker(chosen, resolver(study, loaded, spec), place, targets, at_once=batching.at_once(devices.strategy))
    return 0


def report(
    *folders: str,
    workdir: Target | None = None,
    metric: str | None = None,
    allow: tuple[str, ...] = (),
    overwrite: bool = False,
    console: Console,
) -> int:
    """Writes the report of a study again, or of any set of runs.

    Args:
        folders: folder of a study, or folders of runs.
        workdir: the folder in which the report is written; none: the study's own, or runs/report-HASH for loose runs.
        metric: the compared metric, SPLIT/NAME; none: the study's own, or the primary metric of the runs.
        allow: differences between runs to accept, of data, splits, steps, code, log_every, skip_nonfinite.
        overwrite: replace a report even where it rests on more finished runs.
        console: what is shown.
    """
    from cnnlab.ablation import commands
    from cnnlab.ablation.run import runs

    if not folders:
        raise UsageError(f"report on what? Give the folder of a study, or folders of runs: {home.COMMAND} report runs/…")
    places = [pathlib.Path(folder) for folder in folders]
    if len(places) == 1 and (places[0] / runs.STUDY).exists():
        study = runs.load_study(places[0])
        verdict = declared_verdict(study, places[0]) if study.claim and metric in (None, study.metric) else None
        to = pathlib.Path(workdir) if workdir else None
        shown = commands.write_study_report(
            study, places[0], allow=allow, metric=metric, verdict=verdict, to=to, overwrite=overwrite
        )
        say_changes([study_run.folder for study_run in runs.study_runs(study, places[0])])
        show_report(shown, study, places[0])
    else:
        say_changes([place for folder in places for place, _ in commands.runs_below(folder)])
        print(commands.report_runs(places, allow=allow, metric=metric, to=workdir, overwrite=overwrite))
        run_files.require_undamaged(place for folder in places for place, _ in commands.runs_below(folder))
    return 0


def say_changes(folders: Sequence[pathlib.Path]) -> None:
    """Says what changed in code, data and initial weights since the runs of one experiment were made."""
    from cnnlab.ablation.run import today

    run = next(filter(None, (run_files.read(folder, run_files.RUN) for folder in folders)), None)
    if run is not None:
        devices = Devices(data_dir=run["flags"].get("data_dir"))
        today.say_today(folders, lambda: load(run["experiment"], {}, devices))


def require_unchanged(folders: Sequence[pathlib.Path], experiment: str, data_dir: str | None, allow: Sequence[str]) -> None:
    """Raises an error, before anything is repeated, where code, data or initial weights changed since the runs were made."""
    from cnnlab.ablation.run import today

    run = next(filter(None, (run_files.read(folder, run_files.RUN) for folder in folders)), None) or {"flags": {}}
    loaded = load(experiment, {}, Devices(data_dir=data_dir or run["flags"].get("data_dir")))
    today.require_same_runs(today.recorded_cells(folders, loaded), allow, remedy="reproduce the run where these are")


def show_report(text: str, study: Study, folder: pathlib.Path) -> None:
    """Prints the table of a study. Raises DataError with every damaged file of its runs, which the report names as well."""
    from cnnlab.ablation.run import runs

    print(text, flush=True)
    run_files.require_undamaged(study_run.folder for study_run in runs.study_runs(study, folder))


def declared_verdict(study: Study, folder: pathlib.Path) -> Any:
    """Returns the verdict rule of a study's experiment; None where its file is gone or declares none, or another test now."""
    if study.experiment not in experiment_files() and not pathlib.Path(study.experiment).is_file():
        return None
    announce_code(study.experiment, folder / run_files.STUDY)
    loaded = load(study.experiment, {}, Devices())
    from cnnlab.ablation.plan.declaration import verdict_rule

    return verdict_rule(study, loaded)


def reproduce(
    *folders: str,
    workdir: Target | None = None,
    data_dir: PathText | None = None,
    jobs: Count = 1,
    allow: tuple[str, ...] = (),
    batching: Batching,
    console: Console,
) -> int:
    """Runs a run or a study again and compares the numbers; the exit code is 1 where they differ.

    Args:
        folders: the folder of one run or study.
        workdir: folder of the repetition; none: FOLDER-again.
        data_dir: folder of prepared TFDS data sets, if not the recorded one.
        jobs: number of workers at once, for a study.
        allow: what may have changed since, of code, data, weights.
        batching: how runs of a study that share a compilation are trained.
        console: what is shown.
    """
    from cnnlab.ablation.run import reproduce as reproducing
    from cnnlab.ablation.run import runs, scheduler

    if len(folders) != 1:
        raise UsageError("reproduce what? Give the folder of one run or study, such as runs/NAME-HASH/seed_0.")
    folder = pathlib.Path(folders[0])
    target = pathlib.Path(workdir) if workdir else reproducing.again(folder)
    if not (folder / runs.STUDY).exists():
        announce_code(run_files.read_run(folder)["experiment"], folder / run_files.RUN)
        require_unchanged([folder], run_files.read_run(folder)["experiment"], data_dir, allow)
        agree, text = reproducing.reproduce_run(folder, target, main_again, data_dir=data_dir)
        print(f"{folder}: {text}\n  the second run is in {target}")
        return int(not agree)
    study, inner = runs.load_study(folder), target / folder.name
    if data_dir:
        kept = [word for word in study.flags if not word.startswith("--data_dir=")]
        study = dataclasses.replace(study, flags=(*kept, f"--data_dir={data_dir}"))
    announce_code(study.experiment, folder / run_files.STUDY)
    require_unchanged([one.folder for one in runs.study_runs(study, folder)], study.experiment, data_dir, allow)
    here = launcher(Launching(jobs=jobs), batching, Devices())
    code = run_study(study, inner, here, batching, scheduler.Scheduling(jobs, quiet=console.quiet), None)
    if code > 1:
        return code
    agree, text = reproducing.compare_study(study, folder, inner)
    print(f"{text}\n{'all runs agree' if agree else 'NOT all runs agree'}; the second ones are in {target}")
    return int(not agree)


def main_again(words: Sequence[str]) -> int:
    """Runs another command in a process of its own; returns its exit code."""
    return subprocess.run(home.process(words), check=False).returncode
