"""Runs a study on a Ray cluster, or on a Ray of its own on this machine. Ray is an optional extra: pip install "cnnlab[ray]".

Each worker is the same command line as elsewhere, started by an actor that holds the worker's CPUs and GPUs. Ray only places
workers: it repeats nothing by itself, so that attempts are counted in one place. A worker whose actor is lost (killed, or its
node gone) saves a checkpoint and ends, and the run goes on in a new worker; like a job that Slurm loses, that is no failure of
the run. The study must lie in a file system that all nodes share under one path, with working locks.
"""

import contextlib
import logging
import os
import pathlib
import socket
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnnlab import files
from cnnlab.ablation.plan.study import Study
from cnnlab.ablation.run.local import Command, Process, Value
from cnnlab.ablation.run.scheduler import Scheduling, run_study
from cnnlab.errors import Preempted, UsageError

log = logging.getLogger("cnnlab")

POLL_SECONDS = 0.2
OBJECT_STORE_BYTES = 100 * 2**20
"""Size of the object store of a Ray of our own; small, because nothing but exit codes goes through it."""
PRIVATE = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray would report its use to its makers
    # A node short of memory: Ray would kill the actor, which is small. Left alone the system kills the training process.
    "RAY_memory_monitor_refresh_ms": "0",
}
"""Environment of a Ray of our own."""
# A Ray worker that ends in order (its cluster shuts down) would kill what it started before that can save a checkpoint.
ENVIRONMENT = {"RAY_kill_child_processes_on_worker_exit": "0"}


class Supervisor:
    """The actor that Ray runs: it starts a worker where Ray placed it, waits for it and ends it. The worker ends with it."""

    def __init__(self, place: str, words: Sequence[str], text: str, environment: Mapping[str, str]) -> None:
        os.chdir(place)
        self._node = os.getppid()
        self._process = Process([*words, f"--parent={os.getpid()}"], pathlib.Path(text), dict(environment))

    def begun(self) -> bool:
        """Returns True, as soon as Ray has placed the actor."""
        return True

    def wait(self) -> tuple[int, str]:
        """Waits for the worker; returns its exit code and how it ended, in words."""
        while (code := self._process.poll()) is None:
            if os.getppid() != self._node:  # Ray's process on this machine is gone, which Ray's own check can miss
                os._exit(Preempted.exit_code)  # so the worker saves and ends
            time.sleep(POLL_SECONDS)
        return code, self._process.how()

    def end(self, *, now: bool) -> None:
        """Asks the worker to end, or kills it."""
        if self._process.poll() is None:
            self._process.end(now=now)


class _Worker:
    """A worker on Ray, as the scheduler sees it."""

    def __init__(self, actor: Any, log: pathlib.Path, status_file: pathlib.Path) -> None:
        self._actor, self.log, self._status_file = actor, log, status_file
        self._begun, self._result = actor.begun.remote(), actor.wait.remote()
        self._ended: tuple[int, str] | None = None
        self._lost = self._end_requested = False

    def poll(self) -> int | None:
        if self._ended is None and _is_ready(self._result):
            self._ended = self._ask()
        if self._ended is None or (self._lost and _is_locked(self._status_file)):
            return None
        return self._ended[0]

    def is_running(self) -> bool:
        return self.poll() is None and _is_ready(self._begun)

    def how(self) -> str:
        return self._ended[1] if self._ended else ""

    def end(self, *, now: bool) -> None:
        import ray

        self._end_requested = True
        if self.poll() is not None or self._lost:
            return
        if _is_ready(self._begun):
            self._actor.end.remote(now=now)
        else:
            ray.kill(self._actor)

    def _ask(self) -> tuple[int, str]:
        """Returns (exit code, words) of a worker that ended, or whose actor did."""
        import ray

        try:
            return ray.get(self._result)
        except ray.exceptions.RayActorError as error:
            message = str(error).strip()
            if error.actor_init_failed:
                return 1, f"Ray could not start it: {message.splitlines()[-1]}"
            self._lost = True
            if not self._end_requested:
                reason = next((line for line in message.splitlines() if line.startswith("The actor is dead")), message)
                log.warning("A Ray worker was lost; its run goes on from a checkpoint. %s", reason.partition(" Some common")[0])
            return Preempted.exit_code, "its Ray worker was lost"


def _is_ready(reference: Any) -> bool:
    import ray

    return bool(ray.wait([reference], timeout=0)[0])


def _is_locked(status_file: pathlib.Path) -> bool:
    """Returns whether a lost worker still saves a run that it was training."""
    from cnnlab.runs.lock import Busy, locked

    for folder in map(pathlib.Path, (files.read_json(status_file) or {}).get("runs", [])):
        try:
            if folder.exists():
                with locked(folder):
                    pass
        except Busy:
            return True
    return False


def run_on_ray(
    study: Study,
    folder: pathlib.Path,
    command: Command,
    scheduling: Scheduling,
    *,
    options: Mapping[str, Value],
) -> int:
    """Trains every run that is not finished in Ray actors.

    See `run_study` for the other arguments and the result.

    Args:
        study: what to train.
        folder: the study's folder; logs go to its logs/.
        command: makes the command line of a worker.
        scheduling: how many of them there are at once, and what a failure leads to.
        options: address of a cluster (default: a Ray of our own on this machine), and what an actor takes: num_cpus
            (default: 1), num_gpus, memory, accelerator_type.
    """
    supervisor = actor_class(options)
    with _ray(options):

        def start(numbers: Sequence[int], slot: int, status_file: pathlib.Path) -> _Worker:
            words = [*command(numbers), f"--status_file={status_file}"]
            text = status_file.with_suffix(".txt")
            return _Worker(supervisor.remote(os.getcwd(), words, str(text), _memory_share(options)), text, status_file)

        return run_study(study, folder, start, scheduling)


def actor_class(options: Mapping[str, Value]) -> Any:
    """Returns Ray's class of supervisors with their resources; raises UsageError where there is no Ray, or no such option."""
    try:
        import ray
    except ImportError:
        raise UsageError('--launcher=ray: Ray is not installed. pip install "ray>=2.50,<3"') from None
    given = {"num_cpus": 1, **{name: value for name, value in options.items() if name != "address"}}
    try:
        return ray.remote(Supervisor).options(
            **given,
            max_concurrency=3,  # it waits, says that it began, and ends the worker
            max_restarts=0,
            runtime_env={"env_vars": ENVIRONMENT},
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"--launcher_options: {error}") from None


@contextlib.contextmanager
def _ray(options: Mapping[str, Value]) -> Iterator[None]:
    """Connects to the cluster of the option address, or to a Ray of our own that ends with us."""
    import ray

    address = str(options.get("address", "local"))
    more: dict[str, Any] = {}
    if address == "local":
        more = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        for name, value in PRIVATE.items():
            os.environ.setdefault(name, value)
    try:
        _check_address(address)
        with warnings.catch_warnings():
            # jax warns of forks; what Ray forks becomes another program at once and runs nothing of jax.
            warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **more)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"--launcher_options=address={address}: {error}\nGive auto, or HOST:PORT of `ray start`.") from None
    try:
        if address == "local":
            _check_room(options, ray.cluster_resources())
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raises OSError or ValueError where nothing listens at HOST:PORT, which Ray itself would try for minutes."""
    if address not in ("local", "auto"):
        host, colon, port = address.rpartition(":")
        if not colon:
            raise ValueError("this is no address.")
        socket.create_connection((host, int(port)), timeout=10).close()


def _check_room(options: Mapping[str, Value], there: Mapping[str, float]) -> None:
    """Raises UsageError where this machine can never hold one worker, which would wait for ever."""
    for option, name in (("num_cpus", "CPU"), ("num_gpus", "GPU"), ("memory", "memory")):
        wanted, found = float(options.get(option, 0)), there.get(name, 0)
        if wanted > found:
            raise UsageError(
                f"--launcher_options={option}={wanted:g}: Ray finds {found:g} on this machine, so no worker could ever start. "
                "Ask for less, or give address=HOST:PORT of a cluster."
            )


def _memory_share(options: Mapping[str, Value]) -> dict[str, str]:
    """Returns the environment of a worker that shares its accelerator with others."""
    share = float(options.get("num_gpus", 0))
    return {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 * share:.2f}"} if 0 < share < 1 else {}
