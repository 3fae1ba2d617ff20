"""Runs a study on a Ray cluster, or on a Ray of its own on this machine. Ray is an optional extra: pip install "cnnlab[ray]".

Each worker is the same command line as elsewhere, started by an actor that holds the worker's CPUs and GPUs. Ray only places
workers: it repeats nothing by itself, so that attempts are counted in one place. A worker whose actor is lost (killed, or its
node gone) saves a checkpoint and ends, and the run goes on in a new worker; like a job that Slurm loses, that is no failure of
the run. The study must lie in a file system that all nodes share under one path, with working locks.
"""

import atexit
import contextlib
import logging
import os
import pathlib
import re
import socket
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnnlab import files
from cnnlab.ablation.plan.study import Study
from cnnlab.ablation.run.local import Command, Process
from cnnlab.ablation.run.options import Value
from cnnlab.ablation.run.scheduler import Scheduling, run_study
from cnnlab.errors import CnnlabError, Preempted, UsageError, disk_reason
from cnnlab.runs.run_files import JOB
from cnnlab.text import counted

log = logging.getLogger("cnnlab")

POLL_SECONDS = 0.2
CHECK_SECONDS = 5.0
MISSES = 4
"""How often in a row the head of a cluster may not answer before it is taken for lost."""
RESOURCES = (("num_cpus", "CPU", 1), ("num_gpus", "GPU", 0), ("memory", "memory", 0))
"""(option, Ray's name for the resource, what a worker asks for by default)."""
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
        self._node = os.getppid()
        self._process, self._failure = None, ""
        try:  # an exception here would reach the launcher as that of an actor, with Ray's stack and without its own text
            os.chdir(place)
            job = f"Ray actor {os.getpid()} on {socket.gethostname()}"
            words = [*words, f"--parent={os.getpid()}"]
            self._process = Process(words, pathlib.Path(text), {**environment, JOB: job})
        except (OSError, CnnlabError) as error:
            reason = disk_reason(error) if isinstance(error, OSError) else str(error)
            self._failure = f"it cannot start on {socket.gethostname()}: {' '.join(reason.split())}"

    def begun(self) -> bool:
        """Returns True, as soon as Ray has placed the actor."""
        return True

    def wait(self) -> tuple[int, str]:
        """Waits for the worker; returns its exit code and how it ended, in words."""
        if self._process is None:
            return 1, self._failure
        while (code := self._process.poll()) is None:
            if os.getppid() != self._node:  # Ray's process on this machine is gone, which Ray's own check can miss
                os._exit(Preempted.exit_code)  # so the worker saves and ends
            time.sleep(POLL_SECONDS)
        return code, self._process.how()

    def end(self, *, now: bool) -> None:
        """Asks the worker to end, or kills it."""
        if self._process is not None and self._process.poll() is None:
            self._process.end(now=now)


class _Worker:
    """A worker on Ray, as the scheduler sees it."""

    def __init__(self, actor: Any, log: pathlib.Path, status_file: pathlib.Path, cluster: "_Cluster") -> None:
        self._actor, self.log, self._status_file, self._cluster = actor, log, status_file, cluster
        self._begun, self._result = actor.begun.remote(), actor.wait.remote()
        self._ended: tuple[int, str] | None = None
        self._lost = self._end_requested = False

    def poll(self) -> int | None:
        if self._ended is None and self._cluster.is_lost():
            # Nothing is waited for: Ray ends this process a minute after the head, and the workers when their nodes notice it.
            return Preempted.exit_code
        if self._ended is None and _is_ready(self._result):
            self._ended = self._ask()
        if self._ended is None or (self._lost and _is_locked(self._status_file)):
            return None
        return self._ended[0]

    def is_running(self) -> bool:
        return self.poll() is None and (self._lost or _is_ready(self._begun))

    def is_lost(self) -> bool:
        return self._lost or self._cluster.is_lost()

    def waits(self) -> str:
        return "" if self.poll() is not None or self._lost or _is_ready(self._begun) else self._cluster.why_full()

    def how(self) -> str:
        return self._ended[1] if self._ended else "its Ray worker was lost with the head of the cluster"

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
    with _ray(options) as cluster:

        def start(numbers: Sequence[int], slot: int, status_file: pathlib.Path) -> _Worker:
            if cluster.is_lost():
                raise CnnlabError(
                    f"the head of Ray at {cluster.address} does not answer any more.\n"
                    "Its workers save their checkpoints and end; the same command goes on from these."
                )
            words = [*command(numbers), f"--status_file={status_file}"]
            text = status_file.with_suffix(".txt")
            actor = supervisor.remote(os.getcwd(), words, str(text), _memory_share(options))
            return _Worker(actor, text, status_file, cluster)

        return run_study(study, folder, start, scheduling)


def check_ray(study: Study, folder: pathlib.Path, scheduling: Scheduling, *, options: Mapping[str, Value]) -> str:
    """Returns what the workers of a study ask for, in a line; connects to a cluster that is named. Raises UsageError."""
    address = str(options.get("address", "local"))
    if address == "local":
        return f"Ray: {counted(scheduling.jobs, 'worker')} at once, on a Ray of its own on this machine\n"
    import ray

    with _ray(options):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    why = _why_full(options, nodes)
    full = f" {why}" if "no node" in why else ""
    return f"Ray: {counted(scheduling.jobs, 'worker')} at once on {counted(len(nodes), 'node')} of {address}.{full}\n"


def actor_class(options: Mapping[str, Value]) -> Any:
    """Returns Ray's class of supervisors with their resources; raises UsageError where there is no Ray, or no such option."""
    if "address" in options and _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # as `ray start` does; ray.init reads it when ray is imported
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


class _Cluster:
    """What is asked about the cluster as a whole, each no more often than every CHECK_SECONDS."""

    def __init__(self, address: str, options: Mapping[str, Value]) -> None:
        self.address, self._options = address, options
        self._checked_at = self._counted_at = time.monotonic()
        self._misses, self._why = 0, ""
        self._counting: threading.Thread | None = None

    def is_lost(self) -> bool:
        """Returns whether nothing listens at the address of the head any more. Ray itself would end this process for it."""
        if self._misses < MISSES and time.monotonic() - self._checked_at >= CHECK_SECONDS:
            self._checked_at = time.monotonic()
            try:
                _check_address(self.address)
                self._misses = 0
            except OSError:
                self._misses += 1
        return self._misses >= MISSES

    def why_full(self) -> str:
        """Returns why a worker that waits has no place, in a sentence."""
        is_counting = self._counting is not None and self._counting.is_alive()
        if time.monotonic() - self._counted_at >= CHECK_SECONDS and not is_counting and not self.is_lost():
            self._counted_at = time.monotonic()
            self._counting = threading.Thread(target=self._count, daemon=True)  # it waits for a head that is gone
            self._counting.start()
        return self._why

    def _count(self) -> None:
        import ray

        self._why = _why_full(self._options, [node["Resources"] for node in ray.nodes() if node["Alive"]])


def _why_full(options: Mapping[str, Value], nodes: Sequence[Mapping[str, float]]) -> str:
    """Returns why a worker has no place on nodes of these resources, in a sentence."""
    wanted = {name: float(options.get(option, default)) for option, name, default in RESOURCES if options.get(option, default)}
    asked = ", ".join(f"{option}={wanted[name]:g}" for option, name, _ in RESOURCES if name in wanted)
    if any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
        return f"Ray workers wait: every place with {asked} is taken."
    most = ", ".join(f"{name} {max((node.get(name, 0) for node in nodes), default=0):g}" for name in wanted)
    return f"Ray workers wait: no node has {asked} (at most {most}). Add such a node, or ask for less."


@contextlib.contextmanager
def _ray(options: Mapping[str, Value]) -> Iterator[_Cluster]:
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
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UsageError(f"--launcher_options=address={address}: {_explained(error)}") from None
    cluster = _Cluster(ray.get_runtime_context().gcs_address, options)
    try:
        if address == "local":
            _check_room(options, ray.cluster_resources())
        yield cluster
    finally:
        if cluster.is_lost():
            atexit.unregister(ray.shutdown)  # it would wait for the head
        else:
            ray.shutdown()


def _explained(error: Exception) -> str:
    """Returns why there is no connection, and what to do."""
    text = " ".join(str(error).split())
    if not re.search(r"token|authenticat|failed to connect to ray cluster", text, re.IGNORECASE):
        return f"{text}\nGive auto, or HOST:PORT of `ray start`."
    mine = "the one here is another" if _has_token() else "there is none here"
    return (
        f"a Ray listens there and does not let this process in. Where it asks for a token, {mine}:\ncopy ~/.ray/auth_token of "
        "its head to this machine, or set RAY_AUTH_TOKEN. Otherwise install the version of Ray that it has."
    )


def _has_token() -> bool:
    """Returns whether there is a token of a Ray cluster where Ray looks for one."""
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return given or pathlib.Path("~/.ray/auth_token").expanduser().is_file()


def _check_address(address: str) -> None:
    """Raises OSError or ValueError where nothing listens at HOST:PORT, which Ray itself would try for minutes."""
    if address not in ("local", "auto"):
        host, colon, port = address.rpartition(":")
        if not colon:
            raise ValueError("this is no address.")
        socket.create_connection((host, int(port)), timeout=10).close()


def _check_room(options: Mapping[str, Value], there: Mapping[str, float]) -> None:
    """Raises UsageError where this machine can never hold one worker, which would wait for ever."""
    for option, name, _ in RESOURCES:
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
