"""Several processes stop at the same poll, whichever of them got the signal, and none waits for one that is stuck."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from cnnlab.engine import agreed_stop
from cnnlab.engine.agreed_stop import AgreedStop


class Coordinator:
    """Holds keys and a barrier, as jax's coordinator does for its processes."""

    def __init__(self, count: int) -> None:
        self.values: dict[str, str] = {}
        self.barrier = threading.Barrier(count)

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        assert allow_overwrite or key not in self.values
        self.values[key] = value

    def key_value_try_get(self, key: str) -> str:
        return self.values[key]

    def key_value_dir_get(self, prefix: str) -> list[tuple[str, str]]:
        return [(key, value) for key, value in self.values.items() if key.startswith(prefix)]

    def wait_at_barrier(self, name: str, milliseconds: int) -> None:
        self.barrier.wait(milliseconds / 1000)


Joined = Callable[..., tuple[list[AgreedStop], list[threading.Event]]]


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Iterator[Joined]:
    """A function of the number of processes that are there, and of those that answer, which returns what these agree by."""
    made: list[AgreedStop] = []

    def join(count: int, answering: int, polls: list[int]) -> tuple[list[AgreedStop], list[threading.Event]]:
        coordinator = Coordinator(count)
        monkeypatch.setattr(agreed_stop, "client", lambda: coordinator)
        monkeypatch.setattr(agreed_stop, "BEAT_SECONDS", 0.01)
        noticed = []
        for number in range(answering):
            monkeypatch.setattr(agreed_stop.jax, "process_index", lambda number=number: number)
            stop, known = AgreedStop(), threading.Event()
            assert not any(stop() for _ in range(polls[number]))
            stop.take_part(known.set)
            made.append(stop)
            noticed.append(known)
        return made, noticed

    yield join
    for stop in made:
        stop.close()


def test_all_stop_at_the_poll_after_the_furthest_of_them(joined: Joined):
    stops, noticed = joined(3, 3, [5, 8, 0])
    stops[0].request("SIGUSR2")
    assert all(known.wait(60) for known in noticed), "a signal to one is known by all"
    until = time.monotonic() + 60
    while not all(stop._at for stop in stops) and time.monotonic() < until:
        time.sleep(0.005)
    assert [[stop() for _ in range(10)].index(True) + before for stop, before in zip(stops, (5, 8, 0), strict=True)] == [8] * 3
    assert all(stop() for stop in stops) and [stop.polls for stop in stops] == [9] * 3, "it stays so, and is counted no more"
    assert all("SIGUSR2 to process" in stop.reason for stop in stops)


def test_a_process_that_does_not_answer_leaves_the_step_open_and_is_named(joined: Joined, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agreed_stop, "AGREE_SECONDS", 0.01)
    (stop,), (known,) = joined(2, 1, [3])
    stop.request("SIGTERM")
    assert known.wait(60)
    stop.close()
    assert not stop() and stop.polls == 4
    monkeypatch.setattr(agreed_stop, "count", lambda: 2)
    monkeypatch.setattr(agreed_stop, "BEAT_SECONDS", 600.0)
    assert agreed_stop.silent_processes() == "process 1 of 2 shows no sign of life"
    monkeypatch.setattr(agreed_stop, "client", lambda: None)
    assert agreed_stop.silent_processes() == "the coordinator, which is in process 0, does not answer"
