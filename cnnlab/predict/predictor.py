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
from flax.errors import ScopeParamShapeError

from cnnlab.core import Array, Params, Predicted, Prediction, PyTree, Stats, TrainState
from cnnlab.data.decode import BadImage
from cnnlab.data.source import decoding_threads
from cnnlab.engine.averages import evaluated
from cnnlab.engine.precision import computing_in
from cnnlab.engine.program import Program, stack_steps
from cnnlab.engine.train import evaluation_batch
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
    """The function that a run trained, compiled once for each shape of a batch and each type of stored images."""

    def __init__(self, program: Program, state: TrainState, *, precision: str, knobs: Mapping[str, Any]) -> None:
        """Places the state on the devices; raises UsageError where the task predicts nothing for single images.

        Args:
            program: program of the run, whose data set has the run's input specification.
            state: host state of a checkpoint.
            precision: name of the dtype in which the network computes.
            knobs: {path: value} of the run.
        """
        task = program.experiment.task
        if task.prediction is None:
            raise UsageError(
                "the model of this run predicts nothing for single images.\n"
                "Give the --workdir of a classifier, an autoencoder or a VAE; `sample` draws images from a generative model."
            )
        self.prediction: Prediction = task.prediction
        self.inputs: InputSpec = program.experiment.data.inputs
        self.prepare = preparation_of(self.inputs, knobs, grows=True)
        self._program, self._precision = program, precision
        self._weights = evaluated(program.strategy.to_devices(state))
        self._compiled: dict[np.dtype, Callable[..., Stats]] = {}
        self._refusals: dict[tuple[int, ...], str] = {}

    def batch_size(self, count: int | None) -> int:
        """Returns the size of the batches for a number of images, None: not known; with that of `evaluate`, bits agree."""
        devices = len(self._program.strategy.devices)
        most = evaluation_batch(self._program.experiment.data)
        return -(-min(most, count or most) // devices) * devices

    def batch(self, images: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
        """Returns the arrays [N, …] of the prediction for prepared images [N, H, W, C], N at most `batch_size`."""
        count, missing = len(images), batch_size - len(images)
        padded = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)]) if missing else images
        numbers = np.arange(batch_size, dtype=np.int32)
        feed = {"image": padded, "index": numbers, "mask": numbers < count}
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

    def each(
        self, images: Iterable[Found], unreadable: Callable[[Found, str], None], *, batch_size: int
    ) -> Iterator[PredictedImage]:
        """Yields the predictions in the order of the images; at most two batches of images are in memory.

        Files are decoded by several threads while the device computes.

        Args:
            images: images that are to be predicted.
            unreadable: is called with an image that cannot be predicted and the reason, and the image is left out.
            batch_size: number of images that are predicted at once, as of `batch_size()`.
        """
        batch: list[tuple[Found, Prepared]] = []
        for found, prepared in self._prepared(images, unreadable, batch_size):
            if batch and (len(batch) == batch_size or _type_of(batch[0][1]) != _type_of(prepared)):
                yield from self._predict(batch, batch_size)
                batch = []
            batch.append((found, prepared))
        if batch:
            yield from self._predict(batch, batch_size)

    def _prepared(
        self, images: Iterable[Found], unreadable: Callable[[Found, str], None], ahead: int
    ) -> Iterator[tuple[Found, Prepared]]:
        """Yields the images that can be read, as the network takes them; `ahead` of them are read before they are asked for."""
        waiting: collections.deque[tuple[Found, Future[Prepared]]] = collections.deque()
        rest = iter(images)
        with ThreadPoolExecutor(decoding_threads(None, None)) as pool:
            try:
                while True:
                    for found in itertools.islice(rest, ahead - len(waiting)):
                        waiting.append((found, pool.submit(self.prepare, found.source)))
                    if not waiting:
                        return
                    found, future = waiting.popleft()
                    try:
                        prepared = future.result()
                        self._require_accepted(prepared.pixels)
                        yield found, prepared
                    except BadImage as error:
                        unreadable(found, str(error))
            finally:
                pool.shutdown(cancel_futures=True)

    def _require_accepted(self, pixels: np.ndarray) -> None:
        """Raises BadImage for an image [H, W, C] on a larger canvas that the network, of one size alone, does not take."""
        shape = pixels.shape
        if shape != self.inputs.image_shape and shape not in self._refusals:
            feed = {"image": pixels[None, None], "index": np.zeros((1, 1), np.int32), "mask": np.ones((1, 1), bool)}
            try:
                jax.eval_shape(self._function(str(pixels.dtype)), *self._weights, feed)
                self._refusals[shape] = ""
            except (UsageError, ScopeParamShapeError, TypeError, ValueError) as error:
                self._refusals[shape] = str(error).partition("\n")[0]
        if reason := self._refusals.get(shape):
            (height, width, _), (tall, wide) = self.inputs.image_shape, shape[:2]
            raise BadImage(
                f"it needs {tall} x {wide} pixels (height x width), and the network takes {height} x {width} alone ({reason})"
            )

    def _predict(self, batch: list[tuple[Found, Prepared]], batch_size: int) -> Iterator[PredictedImage]:
        """Yields the predictions of one batch."""
        arrays = self.batch(np.stack([prepared.pixels for _, prepared in batch]), batch_size)
        for number, (found, prepared) in enumerate(batch):
            yield PredictedImage(found, prepared, {name: values[number] for name, values in arrays.items()})


def _type_of(prepared: Prepared) -> tuple[tuple[int, ...], np.dtype]:
    """Returns the shape and the dtype of an image: those of a batch are alike."""
    return prepared.pixels.shape, prepared.pixels.dtype
