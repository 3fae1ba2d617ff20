"""The recipe of networks that write: from the characters so far to the next one."""

from typing import Annotated

from cnnlab.core import Experiment
from cnnlab.data.images import require_validation
from cnnlab.data.text_windows import TextWindows, WholeText, windows_of
from cnnlab.models.writer import WRITERS
from cnnlab.ops.averaging import AVERAGES, ema
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.tasks.ngram import ngram
from cnnlab.tasks.write import write
from cnnlab.values import Choice, Count, Duration, Range


def writing(
    *,
    model: Choice[WRITERS] = "recurrent",
    data: TextWindows = "text_windows",
    context: Annotated[int, Range(0)] = 128,
    measured: Count = 256,
    optimizer: Choice[OPTIMIZERS] = "adam",
    duration: Duration = Duration(1, "epochs"),
    early_stopping: Count | None = None,
    average: Choice[AVERAGES] = ema,
) -> Experiment:
    """A network that predicts every next character of a text, by back-propagation through time that is truncated to a window.

    Args:
        model: network.
        data: text, and how it is cut into windows.
        context: number of characters that a held-out window reads before those that are measured.
        measured: number of characters of a held-out window that are measured; each of the text is measured once.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        duration: length of training; --steps, --epochs and --examples_seen (windows) set it.
        early_stopping: validations in a row without an improvement after which training ends, with the best weights; none: off.
        average: average of the parameters over training that is evaluated in their place; ema with average_decay=0: none.
    """
    dataset = require_validation(data(context=context, measured=measured), early_stopping)
    windows = windows_of(dataset, context=context, measured=measured)
    task = write(model(classes=dataset.classes), windows=windows)
    steps = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    optimizers = {player: optimizer(steps=steps) for player in task.turns}
    return Experiment(task, dataset, optimizers, steps, average(steps), None, (), early_stopping)


def counted_ngrams(*, order: Annotated[int, Range(1, 12)] = 5, data: WholeText = "text_windows") -> Experiment:
    """An n-gram model of characters with Witten-Bell smoothing, counted once over the training text: the baseline of `writing`.

    Args:
        order: n, the number of characters of a context and the one that follows it.
        data: text; the whole training text is one batch.
    """
    context, measured = max(order - 1, 1), 256
    dataset = data(batch_size=None, context=context, measured=measured)
    windows = windows_of(dataset, context=context, measured=measured)
    size = dataset.sizes["train"] * windows.length
    return Experiment(ngram(order=order, characters=dataset.classes, size=size, windows=windows), dataset, {}, steps=0)
