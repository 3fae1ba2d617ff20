"""The five nouns of cnnlab: Task, TrainState, Dataset, Experiment, Strategy. Types and docstrings, no logic.

Training is a game: *players* take turns, each owns one named group of parameters and lowers its own loss. Supervised
learning is the game of one player, a GAN the game of two, a frozen group a player that never moves. One `train_step` and
one `fit` serve them all (engine/program.py, engine/train.py).

Letters in shapes: B batch, H W space, C channels, K classes, N examples of a split.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from cnnlab.inputs import InputSpec
from cnnlab.metric import Metric

Array = jax.Array
PyTree = Any
Params = dict[str, PyTree]
"""One pytree of parameters for each player."""

CLASSIFIER = "classifier"
"""The player that trains a classifier: the owner of the layers that move."""
SEGMENTER = "segmenter"
"""The player that trains a network with an output for every pixel."""
DETECTOR = "detector"
"""The player that trains a network that finds objects."""
PRETEXT = "pretext"
"""The player that trains a trunk and the head of a pretext task; the labels of the data never enter its loss."""
TEACHER = "teacher"
"""The player that trains a network which another one learns from; it is no part of that one."""
REGRESSOR = "regressor"
"""Parameters of the layer by which a student's layer is compared with its teacher's; it is no part of the student."""
FROZEN = "frozen"
"""The player that never moves: the owner of layers that keep the weights they start with."""
OUTPUT = "output"
"""Name of a classifier's last layer, which computes the logits."""
TRUNK = "trunk"
"""Name of the module of PRETEXT's network that other tasks start from: a network of MODELS without its last layer."""

Feed = dict[str, Any]
"""The host's input to one step, NumPy arrays: `index` i32 [B] (position in the split), `mask` bool [B] (False: padding),
`epoch` i32 [B] (how often training showed the example before) where the augmentation asks for it, and the columns themselves
where the split is too large to stay on the device."""
Rows = Callable[[int], np.ndarray]
"""Size of a global batch -> the rows i64 [b] of it, ascending, that one of several processes reads."""
Batch = dict[str, Any]
"""A task's input: the columns of the data set, each an array [B, …] or a dict of arrays, such as `image` f32 [B, H, W, C]
normalised and `label` i32 [B]; with `index` i32 [B] and `mask` bool [B]. A column is what its kind says (data/kinds/)."""
Stats = dict[str, dict[str, Any]]
"""Mergeable statistics of a batch: every leaf of `stats["sums"]`, of any shape (a confusion matrix f32 [K, K]), adds over
batches and devices and keeps its shape; every leaf of `stats["rows"]` [B, …] concatenates (padding dropped by
`rows["mask"]`)."""


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Draws images from a trained model. Each image is a function of its own key, independent of the rest of the batch.

    Codes are points of the model's latent space: `draw` decodes those that `codes` draws. A model that draws pixel by pixel
    has none.
    """

    draw: Callable[[Params, PyTree, Array, Array, Array], Array]
    """(params, model_state, keys [N], labels i32 [N], temperature f32 []) -> images f32 [N, H, W, C] in [0, 1]."""
    codes: Callable[[Params, PyTree, Array, Array], Array] | None = None
    """(params, model_state, keys [N], temperature f32 []) -> codes f32 [N, Z]."""
    decode: Callable[[Params, PyTree, Array, Array], Array] | None = None
    """(params, model_state, codes f32 [N, Z], labels i32 [N]) -> images f32 [N, H, W, C] in [0, 1]."""
    conditional: bool = False
    """Whether images are drawn by class; otherwise the labels are ignored."""


Writer = Callable[[Params, PyTree, Array, Array, Array, int], Array]
"""(params, model_state, keys [N], beginning i32 [P], temperature f32 [], length) -> i32 [N, length], the characters that
follow it. Each text is a function of its own key, independent of the others."""
Predicted = Mapping[str, np.ndarray]
"""The arrays of one image in a prediction, without the axis of the batch."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Describes what a trained task predicts for images without labels: as arrays, as rows of a table, as a picture."""

    arrays: Callable[[Array, Array], dict[str, Array]]
    """(outputs [B, …] of `Task.predict`, images [B, H, W, C] normalised) -> {name: [B, …]}, inside the compiled program, such
    as `probabilities` f32 [B, K]."""
    rows: Callable[[Predicted, InputSpec], list[dict[str, Any]]]
    """(arrays of an image, inputs) -> its rows, {column: number or text}, with the same columns for every image: one row for a
    class, one for each box."""
    caption: Callable[[Predicted, InputSpec], str]
    """(arrays of an image, inputs) -> a few words for the picture of the image."""
    label: Callable[[Predicted, InputSpec], str] = lambda arrays, inputs: ""
    """(arrays of an image, inputs) -> the one class of the image, by which pictures are sorted; empty: it has none."""
    picture: Callable[[np.ndarray, Predicted], np.ndarray] = lambda image, arrays: image
    """(image f32 [H, W, C] in [0, 1], its arrays) -> the picture f32 [h, w, C] that shows the prediction."""
    maps: Callable[[np.ndarray, Predicted, Any], Mapping[str, np.ndarray]] | None = None
    """(image f32 [h, w, C] in [0, 1] at its own size, its arrays, its place in what the network took: data.placement.Placement)
    -> {name of a folder: a map u8 [h, w], or a picture f32 [h, w, 3]}, written in place of `picture`; None: there are none."""
    placed: Callable[[Predicted, Any], Predicted] = lambda arrays, place: arrays
    """(arrays of an image, its place) -> the arrays from which its rows and records are made, such as boxes in pixels of the
    image at its own size."""
    records: Callable[[Predicted, InputSpec, str], list[dict[str, Any]]] | None = None
    """(arrays of an image, inputs, the name of its file) -> what JSON has of it, such as COCO's results, also beside
    a folder of pictures; None: its rows, and nothing beside pictures."""
    palettes: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """{folder of maps: u8 [256, 3], the colours in which they are stored}; others are grey."""
    example: str = "print(scores)"
    """A line of Python that shows what an exported program gives for one picture: it has `scores`, the outputs [1, …] of
    `Task.predict`, `about`, the input specification as JSON, `numpy` and Pillow's `Image`."""


@dataclasses.dataclass(frozen=True)
class Task:
    """An optimisation problem as pure functions; the players are the keys of the parameters that `init` returns.

    A function that reduces over the batch does so through ops/collectives.py, which is right whether the batch lies on one
    device or is split over several.
    """

    init: Callable[[Array, Batch], tuple[Params, PyTree]]
    """(key, batch) -> (params by player, model state such as batch statistics)."""
    loss: Callable[[Params, PyTree, Batch, Array, str], tuple[Array, tuple[PyTree, Stats]]]
    """(params, model_state, batch, key, player) -> (that player's loss [], (new model state, sums)).

    Where the batch is split over devices (pmap), each calls this with its own part, and the mean of what they return is the
    loss of the global batch; the step averages their gradients, too. A mean over all examples of the part is right. A mean
    over some of them, or with weights, is `collectives.weighted_mean`, whose weights count over the global batch."""
    predict: Callable[[Params, PyTree, Array], Array]
    """(params, model_state, inputs [B, …]) -> outputs [B, …], with nothing random and nothing updated."""
    measure: Callable[[Params, PyTree, Batch], Stats]
    """(params, model_state, batch) -> statistics of a held-out batch."""
    summary: Callable[[Stats], dict[str, float]]
    """Merged statistics (NumPy, padding gone) -> named numbers; takes those of `loss` and those of `measure`."""
    figures: Callable[[Params, PyTree, Stats, "Dataset", str], dict[str, Any]]
    """(params, model_state, merged statistics of a split, data, split) -> {name: matplotlib figure} for a person."""
    turns: tuple[str, ...]
    """Players that move in one step, in order; () for a task that only remembers (nearest neighbours)."""
    metrics: tuple[Metric, ...]
    """The declarations of every number that `summary` can give. The first is the primary metric: checkpoints are ranked by it,
    and studies compare by it, so it has a sense."""
    logged_metrics: tuple[str, ...] = ("loss",)
    """Names of the metrics, beside the primary one, that are watched during training: on the progress line and as curves."""
    param_groups: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """{player: the groups of parameters that it moves}, for a player that does not move the one group of its own name.
    Its gradients, updates and optimiser state are dicts of these groups."""
    snapshot: Callable[[Params, PyTree, Batch, Array], dict[str, Array]] | None = None
    """(params, model_state, held-out batch, key) -> {name: images f32 [N, H, W, C] in [0, 1]}, a sheet of which is kept at
    every evaluation; the batch and the key are always the same."""
    sampler: Sampler | None = None
    """Sampler of images from the trained model; None: it has none."""
    writer: Writer | None = None
    """Writes texts with the trained model; None: it does not write."""
    diagnosis: Callable[[Mapping[str, float]], str] = lambda metrics: ""
    """Final metrics, {"test/loss": …}, and the last ones of training, {"train/loss": …} -> a sentence that a person should
    read, such as that a generator collapsed; or an empty text."""
    prediction: Prediction | None = None
    """What it predicts for images without labels; None: nothing that could be shown."""
    measure_final: Callable[[Params, PyTree, Batch], Stats] | None = None
    """As `measure`, for statistics that take too long to be measured often: they are added for the test split at the end of
    a run."""
    count_file: Callable[[Mapping[str, np.ndarray], int], dict[str, float]] | None = None
    """(arrays of the network by name, bytes of the file that `export --to=FILE.cnnz` writes of them) -> named numbers of the
    weights themselves, which are added to the results at the end of a run; None: there are none."""
    kept_rows: tuple[str, ...] | None = None
    """Names of the rows of the test split that a run keeps in test_rows.npz; None: all. A task whose rows are large, such as
    feature vectors, names those that are read again."""
    for_inputs: Callable[[InputSpec], "Task"] | None = None
    """Inputs -> the same task for images that are normalised by them; None: it does not depend on how they are normalised."""
    packed: Callable[[Params, PyTree], tuple[Callable[[PyTree, Array], Array], PyTree]] | None = None
    """(params, model state) on the host -> (a `predict` of (variables, inputs), these variables, in fewer bytes), for a file
    that holds a program with its weights; None: `predict` itself."""
    codes: Callable[[Params, PyTree], Mapping[str, tuple[np.ndarray, np.ndarray]]] | None = None
    """(params, model state) on the host -> {name of a kernel in files (runs/network_leaves.py): (codes i8 of its shape, scale
    f32 of each output channel)}, whose products are in files in place of the kernels; None: files have the kernels."""
    first_rows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """{name of rows: number of examples}: rows that are fetched of the first examples of a split alone, such as masks for
    figures, which would not fit into memory for all. They are kept in no file unless `kept_rows` names them."""

    @property
    def primary_metric(self) -> Metric:
        """The metric by which checkpoints are ranked and studies compare."""
        return self.metrics[0]

    @property
    def watched_metrics(self) -> tuple[Metric, ...]:
        """The metrics that are watched during training, the primary one last."""
        declared = {metric.name: metric for metric in self.metrics}
        others = [declared[name] for name in self.logged_metrics if name != self.primary_metric.name]
        return (*others, self.primary_metric)


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of training in which the same players take turns; it may begin with surgery on the state."""

    steps: int
    turns: tuple[str, ...]
    begin: Callable[["TrainState", Batch], "TrainState"] | None = None
    """(state, batch) -> the state with which the phase begins, of the same shapes: pruned, with a copy for a teacher, or with
    weights that are initialised from data (LSUV). It is called on the host before the phase's first step, with the host tree
    of the state and the global batch of that step as NumPy arrays in f32. A pure function: a checkpoint at that step holds
    the state before it, and the resumed run calls it again. A phase without steps does not begin."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that training carries from one step to the next; a step takes it and returns the next, in the same memory."""

    step: Array
    """i32 []: steps taken."""
    key: Array
    """Root PRNG key []. It is never split; step, turn and stream are folded in."""
    params: Params
    model_state: PyTree
    """State that the task updates without a gradient: batch statistics, codebooks, queues, remembered examples."""
    opt_state: dict[str, PyTree]
    """One optimiser state for each player that moves."""
    average: Params
    """Average of the parameters over training, used for evaluation; {} without averaging."""
    average_statistics: dict[str, Any] = dataclasses.field(default_factory=dict)
    """{path in the model state: average} of the running statistics of batch normalisation; {} without averaging."""
    loss_scale: dict[str, Array] = dataclasses.field(default_factory=dict)
    """`scale` f32 [] and `good_steps` i32 [] of loss scaling in f16 (engine/loss_scaling.py); {} in other precisions."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Examples in named splits, with training batches that are a pure function of (seed, step).

    Hence a run resumes exactly, in constant time, on any number of devices.
    """

    name: str
    inputs: InputSpec
    """What the network takes and how it is normalised; a run keeps it with its weights, also for other data."""
    kinds: Mapping[str, Any]
    """The kind of every column (data.kinds.Kind), which says what its values are and what their classes are called."""
    stored: Mapping[str, PyTree]
    """{column: shape and type (jax.ShapeDtypeStruct) of one example's value as it is stored}, of the columns that steps see."""
    sizes: Mapping[str, int]
    """Examples by split: train, test and, unless switched off, validation."""
    batch_size: int
    """Global batch size of `train`."""
    recorded_kinds: Mapping[str, Any] = dataclasses.field(default_factory=dict, kw_only=True)
    """`kinds` as JSON (data/kinds/recorded.py), which a run keeps; data that are opened without examples have these alone."""
    class_counts: tuple[int, ...] = dataclasses.field(default=(), kw_only=True)
    """Number of training examples of each class, in the order of `class_names`; (): they have no classes, or it is unknown."""
    accumulate: int = dataclasses.field(default=1, kw_only=True)
    """Number of equal parts in which a training step takes its batch, one after another, before it updates once."""
    train: Callable[..., Iterator[Feed]]
    """(seed, step) -> the endless feeds of steps step, step + 1, … With rows=…, which `for_process` gives, they hold these rows
    of each batch alone."""
    evaluate: Callable[..., Iterator[Feed]]
    """(split, batch size) -> the feeds of one pass in order, the last one padded with `mask` False. It also takes rows=…, as
    `train` does, and with `draws` seed=…, which `for_run` gives."""
    resident: Mapping[str, PyTree]
    """Arrays by split that are placed on the device once and indexed there; {} for a split that is streamed."""
    preparation: Callable[[InputSpec, PyTree, Mapping[str, Array], Array | None], Batch]
    """(inputs, resident arrays of the split, feed, key or None) -> batch, inside the compiled step: looks the examples up,
    scales, augments (only with a key: training), and normalises as `inputs` says."""
    images: Callable[[str, np.ndarray], np.ndarray]
    """(split, indices [B]) -> u8 or f32 [B, H, W, C] for display."""
    fingerprint: str
    """Changes when the examples, their order or their splits change."""
    remarks: tuple[str, ...] = ()
    """What was left out, guessed or cut on the way from the source to these examples, a sentence each."""
    example_names: Callable[[str, np.ndarray], list[str]] | None = None
    """(split, indices [B]) -> the names of these examples, such as paths of files; None: the examples have no names."""
    draws: Callable[[str, int], np.ndarray] | None = None
    """(split, seed) -> positions i32 [M] of the examples of train or validation that the run of a seed draws (data/draws.py).
    Indices count among all training examples, in both splits. `train` draws by the seed that it is given, `evaluate` by that of
    `for_run`, else by seed 0. None: every run has the same examples."""

    order: Callable[..., Any] | None = None
    """(seed, classes i32 [N]) -> order in which training shows N examples (data/stream_order.py); None: shuffled every time."""

    def is_resident(self, split: str) -> bool:
        """Returns whether a split stays on the device; of several streams, whether all do."""
        arrays = self.resident.get(split, {})
        return bool(arrays) and all(part for part in arrays.values() if isinstance(part, dict))

    def for_run(self, seed: int) -> "Dataset":
        """Returns the data as the run of a seed sees them, whose held-out examples may be its own."""
        if self.draws is None:
            return self
        return dataclasses.replace(self, evaluate=functools.partial(self.evaluate, seed=seed))

    def for_process(self, rows: Rows | None) -> "Dataset":
        """Returns the data as one of several processes reads them, some rows of each batch; None: it reads whole batches."""
        if rows is None:
            return self
        train, evaluate = (functools.partial(feeds, rows=rows) for feeds in (self.train, self.evaluate))
        return dataclasses.replace(self, train=train, evaluate=evaluate)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.inputs.class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""
        return self.inputs.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) as the network sees an image."""
        return self.inputs.image_shape

    def example(self, batch_size: int = 1, *, training: bool = False) -> Batch:
        """Returns the shapes and types (jax.ShapeDtypeStruct) of a prepared batch; nothing is read.

        Args:
            batch_size: number of examples.
            training: whether it is a batch of training, of crops, say, in place of whole images.
        """

        def batched(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((batch_size, *leaf.shape), leaf.dtype)

        number = jax.ShapeDtypeStruct((batch_size,), np.int32)
        # A variation may ask how often training has shown an example.
        feed = {**jax.tree.map(batched, dict(self.stored)), "index": number, **({"epoch": number} if training else {})}
        key = jax.eval_shape(lambda: jax.random.key(0)) if training else None
        return jax.eval_shape(lambda feed, key: self.prepare({}, feed, key), feed, key)

    @property
    def prepare(self) -> Callable[[PyTree, Mapping[str, Array], Array | None], Batch]:
        """(resident arrays of the split, feed, key or None) -> batch: `preparation` with these inputs."""
        return functools.partial(self.preparation, self.inputs)

    @property
    def report_split(self) -> str:
        """The split whose numbers are the results of a run: test, else validation, else the training split."""
        return next(split for split in ("test", "validation", "train") if split in self.sizes)

    @property
    def measured_splits(self) -> tuple[str, ...]:
        """The splits that are measured at the end of a run: those that are held out, else the training split."""
        return tuple(split for split in self.sizes if split != "train") or ("train",)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A task, its data, an optimiser for each player and the number of steps. Nothing else."""

    task: Task
    data: Dataset
    optimizers: Mapping[str, Any]
    """optax.GradientTransformation by player; a player without one never moves."""
    steps: int
    """Number of steps, of all phases together."""
    averaging: Callable[[PyTree, PyTree, Array], PyTree] | None = None
    """(average, new values, number of steps before this one i32 []) -> next average, of a tree of the parameters and the
    running statistics of batch normalisation (ops/averaging.py); the average is evaluated in their place. None: no average."""
    start: Callable[[Params, PyTree], tuple[Params, PyTree]] | None = None
    """(shapes of the parameters, of the model state) -> the same trees with a NumPy array for every leaf that does not
    start at random, such as imported weights; all other leaves stay shapes."""
    phases: tuple[Phase, ...] = ()
    """A sequence of games, such as layer-wise pre-training and then fine-tuning; (): the turns of the task throughout."""
    patience: int | None = None
    """Number of validations in a row without an improvement of the primary metric after which training ends; the weights of the
    best validation are then the result, as they are where training reaches its last step. None: no early stopping."""
    end: Callable[[TrainState, Batch], TrainState] | None = None
    """What is done to the trained state, as by Phase.begin, after the last step, before it is measured and saved: it is
    rounded to few integers, say. It may be done to what it made, where a run without steps is taken up. None: nothing."""


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Runs the steps on one or several devices; the step itself does not depend on it.

    A *host tree* is the canonical form, independent of the strategy and of the number of devices: NumPy leaves, keys as
    their u32 data. Checkpoints hold host trees.
    """

    name: str
    devices: tuple[Any, ...]
    to_devices: Callable[[PyTree], PyTree]
    """Host tree of a TrainState -> arrays on the devices."""
    to_host: Callable[[TrainState], TrainState]
    """Placed state -> host tree; the copy stays valid while training goes on."""
    replicate: Callable[[PyTree], PyTree]
    """Host arrays -> the same arrays on every device (resident data)."""
    shard_batch: Callable[[Feed], PyTree]
    """Feeds of k steps, stacked [k, B, …] -> arrays on the devices, the batch axis split over them. Of several processes each
    gives its own `rows`, [k, b, …]."""
    compile_steps: Callable[..., Callable[..., Any]]
    """steps(state, resident, feeds [k, B, …]) -> (state, stats [k, …]), compiled, the state donated; takes `options`, those of
    the compiler, too."""
    compile_measure: Callable[[Callable[..., Any]], Callable[..., Any]]
    """measure(params, model_state, resident, feed [1, B, …]) -> stats, compiled; fetching them gives NumPy [B, …] rows."""
    rows: Rows | None = None
    """The rows of a global batch that the devices of this process hold; None: all, there is one process."""
