"""A worker that trains nothing: it takes locks and writes notes and statuses as a real one does, and misbehaves on request.

behaviour.json next to study.json: {folder of an arm: what its first, second, … attempt does}; the last one is repeated.
"""

import fcntl
import json
import os
import pathlib
import signal
import socket
import sys
import time


def main() -> None:
    flags = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
    study = pathlib.Path(flags["workdir"])
    behaviour = json.loads((study / "behaviour.json").read_text(encoding="utf-8"))
    if behaviour.get("worker") == "broken":
        print("no such library")
        sys.exit(1)
    arms = json.loads((study / "study.json").read_text(encoding="utf-8"))["arms"]
    failed_before = json.loads(pathlib.Path(flags["status_file"]).read_text(encoding="utf-8"))["failed_attempts"]
    process, ended = f"process {os.getpid()} on {socket.gethostname()}", 0
    for number in flags["runs"].split(","):
        folder = study.parent / arms[int(number)]["folder"] / "seed_0"
        pathlib.Path(flags["status_file"]).write_text(
            json.dumps({"process": process, "runs": [str(folder)], "ended": ended}), encoding="utf-8"
        )
        status_file = folder / "status.json"
        status = json.loads(status_file.read_text(encoding="utf-8")) if status_file.exists() else {"attempt": 0}
        is_another_workers = status.get("state") == "FAILED" and status["attempt"] != failed_before.get(str(folder))
        if status.get("state") == "DONE" or is_another_workers:
            continue
        attempt = status["attempt"] + 1
        acts = behaviour.get(arms[int(number)]["folder"], ["good"])
        act = acts[min(attempt, len(acts)) - 1]
        if act == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue

            def write(state: str, **more: object) -> None:
                content = {"state": state, "attempt": attempt, "process": process, "step": 1, "steps": 2, **more}  # noqa: B023
                temporary = folder / "status.new"  # noqa: B023
                temporary.write_text(json.dumps(content), encoding="utf-8")
                temporary.replace(status_file)  # noqa: B023

            write("RUNNING")
            if act == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if act == "slow":
                time.sleep(2)
            if act == "fail":
                write("FAILED", message="as requested")
            elif act == "memory":
                write("FAILED", message="out of memory: RESOURCE_EXHAUSTED")
            else:
                (folder / "result.json").write_text("{}", encoding="utf-8")
                write("DONE")
        ended += 1
        pathlib.Path(flags["status_file"]).write_text(
            json.dumps({"process": process, "runs": [], "ended": ended}), encoding="utf-8"
        )


main()
