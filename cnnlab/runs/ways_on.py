"""What an error that ends a run says about the way on: which steps are saved, and how the run continues."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cnnlab.core import Dataset
from cnnlab.engine import processes
from cnnlab.errors import DamagedFile, DataError, OutOfMemory, disk_reason, of_the_world
from cnnlab.text import counted

if TYPE_CHECKING:
    from cnnlab.runs.recorder import RunRecorder


def last_checkpoint(recorder: "RunRecorder") -> int:
    """Returns the step of the newest checkpoint, after what is still being written is on the disk; 0 where there is none."""
    recorder.checkpoints.close()
    return max(recorder.checkpoints.steps(), default=0)


@contextlib.contextmanager
def saying_what_is_saved(recorder: "RunRecorder") -> Iterator[None]:
    """Adds to an error of the data, such as a file that vanished, which steps are saved; every such error is a DataError."""
    try:
        yield
    except DamagedFile:  # a file of the run itself
        raise
    except (DataError, OSError) as error:
        text = str(error) if isinstance(error, DataError) else disk_reason(error)
        if not processes.is_main():  # it does not see the folder
            more = "The same command goes on from the newest checkpoint, with the data as they were."
            raise DataError(f"{text}\n{more}") from error
        saved = last_checkpoint(recorder)
        recorder.step = max(recorder.step, saved)
        kept = f"The steps up to {saved:,} are saved in {recorder.folder}" if saved else "No step was saved before it"
        raise DataError(f"{text}\n{kept}: with the data as they were, the same command goes on from there.") from error


@contextlib.contextmanager
def saying_what_takes_memory(data: Dataset, devices: int) -> Iterator[None]:
    """Adds to an error of memory that ran out how many examples a device held at a time, and the flags that lower it."""
    try:
        yield
    except Exception as error:
        if not isinstance(found := of_the_world(error), OutOfMemory):
            raise
        held = data.batch_size // devices // data.accumulate
        fewer = f"--batch_size={data.batch_size // 2}, or --accumulate={2 * data.accumulate}"
        advice = f"Lower it by {fewer}." if held % 2 == 0 else "Lower it by a smaller --batch_size, or a larger --accumulate."
        raise OutOfMemory(f"{found}\nA step held {counted(held, 'example')} at a time on each device. {advice}") from error
