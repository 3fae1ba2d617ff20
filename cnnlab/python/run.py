"""A run, opened from its folder. Its files are read at once; its network is restored when it is first needed."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnnlab.cli.groups import Console, Devices, Length
from cnnlab.cli.show import trained_run
from cnnlab.files import absolute
from cnnlab.python.frames import frame
from cnnlab.runs import run_files

if TYPE_CHECKING:
    from PIL import Image

    from cnnlab.core import Experiment, TrainState
    from cnnlab.engine.program import Program
    from cnnlab.inputs import InputSpec
    from cnnlab.knobs import Resolved
    from cnnlab.predict.predictor import Predictor
    from cnnlab.python.inside import Inside
    from cnnlab.python.predictions import Predictions
    from cnnlab.runs.folder import RunSpec


class Run:
    """A run in its folder.

    What the files say (`metrics`, `history`, `knobs`, `figures`) needs neither jax nor the network. `params`, `model_state` and
    `predict` restore the checkpoint, without the data set. `experiment` alone opens the data set.
    """

    def __init__(
        self, folder: str | pathlib.Path, *, best: bool = False, allow: Sequence[str] = (), devices: int | None = 1
    ) -> None:
        """Opens the folder of a run; raises UsageError where it is none.

        Args:
            folder: folder of the run.
            best: use the checkpoint with the best validation metric, not the newest one.
            allow: what may have changed since the run was trained, of code, data, weights.
            devices: number of devices on which the network computes; None: all.
        """
        self.folder = absolute(folder)
        self._recorded = run_files.read_run(self.folder)
        self._best, self._allow, self._devices = best, tuple(allow), devices

    def __repr__(self) -> str:
        """Returns the name of the experiment, the seed, the state and the folder."""
        return f"Run({self.name}, seed {self.seed}, {self.state}, {self.folder})"

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return pathlib.Path(self._recorded["experiment"]).stem

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self._recorded["flags"]["seed"])

    @property
    def knobs(self) -> dict[str, Any]:
        """{path: value} of every knob of the run."""
        return dict(self._recorded["knobs"])

    @property
    def state(self) -> str:
        """RUNNING, DONE, STOPPED, PREEMPTED, DIVERGED or FAILED, as it is now."""
        return str(run_files.status_of(self.folder).get("state", "MISSING"))

    @property
    def metrics(self) -> dict[str, float]:
        """{"test/accuracy": …} of a finished run; {} of any other."""
        return dict((run_files.finished_result(self.folder) or {}).get("metrics", {}))

    @property
    def history(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl: {"step": …, "epoch": …, "train/loss": …}, one for each log and each evaluation."""
        return run_files.read_metrics(self.folder)

    def frame(self) -> Any:
        """Returns the history as a pandas.DataFrame; needs pandas."""
        return frame(self.history)

    def figures(self) -> "dict[str, Image.Image]":
        """Returns {name: Pillow image} of the figures that the run drew at its end, which a notebook shows."""
        from PIL import Image

        return {path.stem: Image.open(path).convert("RGB") for path in sorted((self.folder / "figures").glob("*.png"))}

    @functools.cached_property
    def test_rows(self) -> dict[str, Any]:
        """{name: array [N, …]} of what was kept for every test example, such as label and prediction; {} where nothing was."""
        return run_files.read_rows(self.folder) or {}

    @functools.cached_property
    def inputs(self) -> "InputSpec":
        """What the network takes: size, type and normalisation of images, and the names of the classes."""
        from cnnlab.runs.trained_function import read_inputs

        return read_inputs(self.folder) or self._restored[0].experiment.data.inputs

    @functools.cached_property
    def experiment(self) -> "Experiment":
        """The experiment (core.Experiment): its task, its optimisers and its data set, which has to be there."""
        from cnnlab.runs import run

        experiment: Experiment = run.call(self._opened[0])
        return dataclasses.replace(experiment, data=experiment.data.for_run(self.seed))

    @functools.cached_property
    def params(self) -> Any:
        """The trained parameters, NumPy arrays by player and layer; their averages where the run kept any."""
        from cnnlab.engine.averages import evaluated

        return evaluated(self._restored[1])[0]

    @functools.cached_property
    def model_state(self) -> Any:
        """What belongs to the network beside its parameters, such as statistics of batch normalisation; averaged as these."""
        from cnnlab.engine.averages import evaluated

        return evaluated(self._restored[1])[1]

    @property
    def step(self) -> int:
        """The step of the checkpoint."""
        return self._restored[2]

    def predict(self, images: Any) -> "Predictions":
        """Predicts images, which are prepared as those of the training were.

        Args:
            images: an array u8, or float in [0, 1], [N, H, W, C] or [H, W, C]; a path of a file, a folder or an .npz; a Pillow
                image; or a list of these.
        """
        from cnnlab.python.predictions import predict_images

        return predict_images(self._predictor, images)

    @functools.cached_property
    def inside(self) -> "Inside":
        """What the network looks at: layers, kernels, activations, attributions; of a classifier alone."""
        from cnnlab.explain.opening import open_run
        from cnnlab.python.inside import Inside

        return Inside(open_run(*self._opened, self.folder, best=self._best, with_data=False))

    @functools.cached_property
    def _opened(self) -> "tuple[Resolved, RunSpec]":
        """The experiment's function with the knobs of the run, and the specification of the run."""
        devices, console = Devices(devices=self._devices), Console(log_level="warning")
        resolved, spec, _ = trained_run(
            {}, None, str(self.folder), None, Length(), devices, console, allow=self._allow, starts=False
        )
        return resolved, spec

    @functools.cached_property
    def _restored(self) -> "tuple[Program, TrainState, int]":
        """The program, the host state and the step of the checkpoint; the data set is not opened."""
        from cnnlab.runs import run

        return run.restore_run(*self._opened, self.folder, best=self._best, opens_data=False)

    @functools.cached_property
    def _predictor(self) -> "Predictor":
        """The compiled function of the run."""
        from cnnlab.predict.predictor import Predictor

        (_, spec), (program, state, _) = self._opened, self._restored
        return Predictor(program, state, precision=spec.precision, knobs=spec.knobs)
