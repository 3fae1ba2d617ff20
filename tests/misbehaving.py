"""An experiment whose arms can raise, be killed or run out of memory in a worker, at a pace that a test can keep up with.

MENDED in the environment makes all of them behave, as a person would who found the cause.
"""

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

from cnnlab.core import Experiment, Feed
from cnnlab.data.images import PIPELINES
from cnnlab.models import MODELS
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.optimizers import OPTIMIZERS, momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Choice, Duration


def experiment(
    *,
    behaviour: Literal["good", "fine", "raise", "refuse", "kill", "memory", "crash"] = "good",
    pause: str = "0",
    model: Choice[MODELS] = "linear",
    data: Choice[PIPELINES] = "images",
    optimizer: Choice[OPTIMIZERS] = partial(momentum, schedule="constant"),
    duration: Duration = Duration(6, "steps"),
) -> Experiment:
    """A linear classifier of the digits.

    Args:
        behaviour: what happens to a worker: raise, kill and memory at the fourth step, refuse and crash before the first.
        pause: seconds that every step takes at least.
        model: network.
        data: images with labels, and how they become batches.
        optimizer: rule by which the weights are updated.
        duration: length of training.
    """
    bad = "work" in sys.argv and not os.environ.get("MENDED")
    if bad and behaviour == "refuse":
        raise ValueError("it never could be built")
    if bad and behaviour == "crash":
        os.abort()
    made = classification(model=model, data=data, loss=cross_entropy, optimizer=optimizer, duration=duration)
    train = _with_surprises(made.data.train, behaviour if bad else "good", float(pause))
    return dataclasses.replace(made, data=dataclasses.replace(made.data, train=train))


def _with_surprises(train: Callable[..., Iterator[Feed]], behaviour: str, pause: float) -> Callable[..., Iterator[Feed]]:
    def feeds(seed: int, step: int, **rows: Any) -> Iterator[Feed]:
        for number, feed in enumerate(train(seed, step, **rows), step):
            time.sleep(pause)
            if number == 3 and behaviour == "raise":
                raise ValueError("a defect of this arm")
            if number == 3 and behaviour == "memory":
                raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 99 GiB")
            if number == 3 and behaviour == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            yield feed

    return feeds
