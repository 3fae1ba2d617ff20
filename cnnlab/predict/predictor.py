"""Predicts in batches of one size with the function that a run trained.

Letters in shapes: B images of a batch, N images, H W space, C channels.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from cnnlab.core import Array, Params, Predicted, Prediction, PyTree, Stats, TrainState
from cnnlab.data.decode import BadImage
from cnnlab.data.source import decoding_threads
from cnnlab.engine.averages import evaluated
from cnnlab.engine.program import Program, computing_in, stack_steps
from cnnlab.engine.train import EVALUATION_BATCH
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec
from cnnlab.predict.find import Found
from cnnlab.predict.prepare import Prepared, preparation_of


@dataclasses.dataclass(frozen=True)
class PredictedImage:
    """The prediction for one image."""

    found: Found
    prepared: Prepared
    arrays: Predicted


class Predictor:
    """The function that a run trained, compiled once for batches of one size and each type of stored images."""

    def __init__(
        self, program: Program, state: TrainState, *, precision: str, knobs: Mapping[str, Any], count: int | None = None
    ) -> None:
        """Places the state on the devices; raises UsageError where the task predicts nothing for single images.

        Args:
            program: program of the run, whose data set has the run's input specification.
            state: host state of a checkpoint.
            precision: name of the dtype in which the network computes.
            knobs: {path: value} of the run.
            count: number of images; None: not known. Fewer than EVALUATION_BATCH are one batch.
        """
        task = program.experiment.task
        if task.prediction is None:
            raise UsageError(
                "the model of this run predicts nothing for single images.\n"
                "Give the --workdir of a classifier, an autoencoder or a VAE; `sample` draws images from a generative model."
            )
        self.prediction: Prediction = task.prediction
        self.inputs: InputSpec = program.experiment.data.inputs
        self.prepare = preparation_of(self.inputs, knobs)
        self._program, self._precision = program, precision
        devices = len(program.strategy.devices)
        # The size of the batches of `evaluate`, so that both compute the same bits.
        self.batch_size = -(-min(EVALUATION_BATCH, count or EVALUATION_BATCH) // devices) * devices
        self._weights = evaluated(program.strategy.to_devices(state))
        self._compiled: dict[np.dtype, Callable[..., Stats]] = {}

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the arrays [N, …] of the prediction for prepared images [N, H, W, C], N at most `batch_size`."""
        count, missing = len(images), self.batch_size - len(images)
        padded = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)]) if missing else images
        numbers = np.arange(self.batch_size, dtype=np.int32)
        feed = {"image": padded, "label": np.zeros_like(numbers), "index": numbers, "mask": numbers < count}
        strategy = self._program.strategy
        if images.dtype not in self._compiled:
            self._compiled[images.dtype] = strategy.compile_measure(self._function(str(images.dtype)))
        placed = strategy.shard_batch(stack_steps([feed]))
        rows = jax.device_get(self._compiled[images.dtype](*self._weights, placed)["rows"])
        return {name: np.asarray(values)[:count] for name, values in rows.items()}

    def _function(self, dtype: str) -> Callable[[Params, PyTree, PyTree], Stats]:
        """Returns the function (params, model_state, feed [1, B, …]) -> the prediction, for images of a stored type."""
        data, task, cast = self._program.experiment.data, self._program.experiment.task, computing_in(self._precision)
        inputs, prediction = self.inputs.for_dtype(dtype), self.prediction

        def predict(params: Params, model_state: PyTree, feeds: PyTree) -> Stats:
            feed = jax.tree.map(lambda leaf: leaf[0], feeds)  # [1, B, …] -> [B, …], as a measurement
            images: Array = cast(data.preparation(inputs, {}, feed, None))["image"]
            outputs = task.predict(cast(params), model_state, images)
            return {"sums": {}, "rows": prediction.arrays(outputs, images)}

        return predict

    def each(self, images: Iterable[Found], unreadable: Callable[[Found, str], None]) -> Iterator[PredictedImage]:
        """Yields the predictions in the order of the images; at most two batches of images are in memory.

        Files are decoded by several threads while the device computes.

        Args:
            images: images that are to be predicted.
            unreadable: is called with an image that cannot be predicted and the reason, and the image is left out.
        """
        batch: list[tuple[Found, Prepared]] = []
        for found, prepared in self._prepared(images, unreadable):
            if batch and (len(batch) == self.batch_size or batch[0][1].pixels.dtype != prepared.pixels.dtype):
                yield from self._predict(batch)
                batch = []
            batch.append((found, prepared))
        if batch:
            yield from self._predict(batch)

    def _prepared(self, images: Iterable[Found], unreadable: Callable[[Found, str], None]) -> Iterator[tuple[Found, Prepared]]:
        """Yields the images that can be read, as the network takes them."""
        waiting: collections.deque[tuple[Found, Future[Prepared]]] = collections.deque()
        rest = iter(images)
        with ThreadPoolExecutor(decoding_threads(None, None)) as pool:
            try:
                while True:
                    for found in itertools.islice(rest, self.batch_size - len(waiting)):
                        waiting.append((found, pool.submit(self.prepare, found.source)))
                    if not waiting:
                        return
                    found, future = waiting.popleft()
                    try:
                        yield found, future.result()
                    except BadImage as error:
                        unreadable(found, str(error))
            finally:
                pool.shutdown(cancel_futures=True)

    def _predict(self, batch: list[tuple[Found, Prepared]]) -> Iterator[PredictedImage]:
        """Yields the predictions of one batch."""
        arrays = self(np.stack([prepared.pixels for _, prepared in batch]))
        for number, (found, prepared) in enumerate(batch):
            yield PredictedImage(found, prepared, {name: values[number] for name, values in arrays.items()})
