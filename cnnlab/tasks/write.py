"""The task of predicting every next character of a text, with a state that is carried from window to window.

Back-propagation is truncated to a window (Williams and Peng 1990): a step begins with the state in which the step before left
the same stream, and no gradient flows into it. The states of all streams lie in the model state, so a run resumes with them,
and each is found by its stream, whatever device it lies on.

Letters in shapes: B batch, T characters of a window, K characters of the alphabet, S streams, U units.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.data.text_windows import COLUMN, Windows, measured_places
from cnnlab.metric import Metric
from cnnlab.ops import collectives
from cnnlab.ops.keys import stream
from cnnlab.ops.precision import at_least_f32

PLAYER = "writer"

BITS = Metric("bits_per_character", "bits/char", higher_is_better=False)
NATS = Metric("loss", "nats", higher_is_better=False)
METRICS = (BITS, NATS, Metric("accuracy", "", higher_is_better=True))
"""The metrics that `summary` gives: −log p of a character in bits and nats, and the share with the highest score."""


def write(model: nn.Module, *, windows: Windows) -> Task:
    """The task of raising the probability of every next character: a game of one player.

    Args:
        model: network of WRITERS.
        windows: how the text is cut.
    """
    game = _Game(model, windows)
    return Task(
        init=game.init,
        loss=game.loss,
        predict=game.predict,
        measure=game.measure,
        summary=summary,
        figures=draw_figures,
        turns=(PLAYER,),
        metrics=METRICS,
        logged_metrics=("accuracy",),
        writer=game.write,
    )


@dataclasses.dataclass(frozen=True)
class _Game:
    """The functions of the task; `write` describes the fields."""

    model: nn.Module
    windows: Windows

    def outputs(self, params: Params, text: Array, start: PyTree, key: Array | None) -> tuple[Array, PyTree]:
        """Returns (logits f32 [B, T, K] of the characters after each of text [B, T], the last states)."""
        dtype = jax.tree.leaves(params[PLAYER])[0].dtype
        start = jax.tree.map(lambda leaf: leaf.astype(dtype), start)
        rngs = {} if key is None else {"dropout": stream(key, "dropout")}
        returned: Any = self.model.apply({"params": params[PLAYER]}, text, start, train=key is not None, dtype=dtype, rngs=rngs)
        logits, last, _ = returned
        return at_least_f32(logits), last

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        """Returns the parameters of the player, and a state of zeros for every stream."""
        text = batch[COLUMN][:1, :1]
        params = {PLAYER: self.model.init(key, text, train=False)["params"]}
        _, last = jax.eval_shape(lambda: self.outputs(params, text, None, None))
        return params, {"states": jax.tree.map(lambda leaf: jnp.zeros((self.windows.streams, *leaf.shape[1:])), last)}

    def loss(
        self, params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        """Returns the mean of −log p over the characters of a window, and the states with which the next step begins."""
        rows, number = batch["index"] // self.windows.each, batch["index"] % self.windows.each
        states = model_state["states"]

        def begin(table: Array) -> Array:
            """[S, U] at the streams [B] -> [B, U]; the first window of a stream begins with zeros."""
            return jnp.where(number[:, None] == 0, jnp.zeros((), table.dtype), table[rows])

        text = batch[COLUMN]
        logits, last = self.outputs(params, text[:, :-1], jax.tree.map(begin, states), key)
        # Every device writes the rows of all of them: [B, U] into [S, U].
        everywhere = collectives.gather(rows)
        kept = jax.tree.map(lambda table, new: table.at[everywhere].set(collectives.gather(at_least_f32(new))), states, last)
        sums = _sums(logits, text[:, 1:], jnp.ones(text[:, 1:].shape, bool))
        return jnp.mean(_nats(logits, text[:, 1:])), ({"states": kept}, {"sums": sums, "rows": {}})

    def predict(self, params: Params, model_state: PyTree, inputs: Array) -> Array:
        """Returns the logits f32 [B, T, K] of the characters after each of inputs i32 [B, T]."""
        return self.outputs(params, inputs, None, None)[0]

    def measure(self, params: Params, model_state: PyTree, batch: Batch) -> Stats:
        """Returns the sums of a held-out batch, over the characters that its windows measure."""
        text = batch[COLUMN]
        logits, _ = self.outputs(params, text[:, :-1], None, None)
        return {"sums": _sums(logits, text[:, 1:], measured_places(batch, self.windows)), "rows": {"mask": batch["mask"]}}

    def write(
        self, params: Params, model_state: PyTree, keys: Array, beginning: Array, temperature: Array, length: int
    ) -> Array:
        """Implements core.Writer: each character is drawn from softmax(logits / temperature); at 0 it is the likeliest."""
        read = jnp.broadcast_to(beginning, (len(keys), len(beginning)))  # [P] -> [N, P]
        logits, states = self.outputs(params, read, None, None)

        def next_character(carry: tuple[Array, PyTree], place: Array) -> tuple[tuple[Array, PyTree], Array]:
            logits, states = carry  # logits [N, K] of the character at this place
            own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, place)
            drawn = jax.vmap(jax.random.categorical)(own, logits / jnp.maximum(temperature, 1e-6))
            written = jnp.where(temperature > 0, drawn, jnp.argmax(logits, axis=-1)).astype(jnp.int32)
            after, states = self.outputs(params, written[:, None], states, None)  # [N] -> [N, 1]
            return (after[:, 0], states), written

        _, text = jax.lax.scan(next_character, (logits[:, -1], states), jnp.arange(length))
        return text.T  # [length, N] -> [N, length]


def _nats(logits: Array, after: Array) -> Array:
    """Returns −log p of the characters `after` [B, T] by logits [B, T, K], f32 [B, T]; where there is none, of any."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(after, 0)[..., None], axis=-1)[..., 0]


def _sums(logits: Array, after: Array, counted: Array) -> dict[str, Array]:
    """Returns sums over the characters that are counted: nats, hits, their number, and nats and number by character [K]."""
    nats = jnp.where(counted, _nats(logits, after), 0.0)
    hits = counted & (jnp.argmax(logits, axis=-1) == after)
    each = jax.nn.one_hot(jnp.where(counted, after, -1), logits.shape[-1])  # [B, T, K]
    return {
        "nats": jnp.sum(nats),
        "hits": jnp.sum(hits).astype(jnp.float32),
        "count": jnp.sum(counted).astype(jnp.float32),
        "nats_of": jnp.einsum("bt,btk->k", nats, each),
        "count_of": jnp.sum(each, axis=(0, 1)),
    }


def summary(stats: Stats) -> dict[str, float]:
    """Returns the metrics of METRICS."""
    return {**in_bits(stats), "accuracy": float(stats["sums"]["hits"] / stats["sums"]["count"])}


def in_bits(stats: Stats) -> dict[str, float]:
    """Returns the metrics BITS and NATS of sums of `nats` over `count` characters."""
    nats = float(stats["sums"]["nats"] / stats["sums"]["count"])
    return {BITS.name: nats / math.log(2), NATS.name: nats}


def draw_figures(params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """Returns bars of the characters that cost the most bits of the split together."""
    from cnnlab import figures

    bits, count = stats["sums"]["nats_of"] / math.log(2), stats["sums"]["count_of"]
    order = np.argsort(-bits, kind="stable")[:30]
    order = order[count[order] > 0]
    names = [f"{data.class_names[number]!r} ({bits[number] / count[number]:.1f} bits each)" for number in order]
    title = f"Where the bits of {split} go, by the character that came"
    return {"characters": figures.bars([float(bits[number] / bits.sum()) for number in order], names, title=title)}
