"""The n-gram model with Witten-Bell smoothing: the table of counts that a network which writes has to beat.

P(c | h) = (count(h c) + types(h) P(c | h′)) / (count(h) + types(h)), where h′ is the context h without its oldest character and
types(h) the number of different characters that followed h; below the empty context stands 1/K (Witten and Bell 1991, The
zero-frequency problem, method C, interpolated as in Chen and Goodman 1996, cmp-lg/9606011).

Letters in shapes: N characters of the training text, B batch, T characters of a window, K characters of the alphabet.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Params, PyTree, Stats, Task
from cnnlab.data.text_windows import COLUMN, Windows, measured_places
from cnnlab.errors import UsageError
from cnnlab.tasks.untrained import no_loss
from cnnlab.tasks.write import BITS, NATS, in_bits

NONE = np.iinfo(np.int32).max
"""Key behind those that occur, so that arrays of keys are sorted."""


def ngram(*, order: int, characters: int, size: int, windows: Windows) -> Task:
    """The task of predicting a character from the `order` − 1 before it by counts. There is nothing to train.

    `init` gets the whole training text as one batch of windows in their order. The model state holds, for each length of
    context, the contexts that occur, how often each did, and with which next characters.

    Args:
        order: n, the length of a context and the character that follows it.
        characters: number K of characters.
        size: number N of characters of the training text.
        windows: how the text is cut.
    """
    if size * characters >= NONE:
        raise UsageError(
            f"{size:,} characters of {characters} kinds are too many: their product must lie below {NONE:,}.\n"
            "Take a shorter text."
        )
    game = _Counts(order, characters, windows)
    return Task(
        init=game.init,
        loss=no_loss("an n-gram model is counted, not trained"),
        predict=_no_prediction,
        measure=game.measure,
        summary=in_bits,
        figures=lambda *_: {},
        turns=(),
        metrics=(BITS, NATS),
        logged_metrics=(),
    )


@dataclasses.dataclass(frozen=True)
class _Counts:
    """The functions of the task; `ngram` describes the fields."""

    order: int
    characters: int
    windows: Windows

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        """Returns no parameters, and the tables of the training text by length of context."""
        windows = batch[COLUMN]
        after = jnp.concatenate([windows[:, :-1].reshape(-1), windows[-1, -1:]])  # [W, T + 1] -> [N]: windows share an end
        given = jnp.concatenate([jnp.zeros(1, jnp.int32), after[:-1]])  # the character before each; none before the first
        numbers, places = jnp.zeros(len(after), jnp.int32), jnp.arange(len(after))
        tables = {}
        for length in range(self.order):
            has_context = places >= length
            # The context of a place is known by its number: that of the context without its oldest character, and this one.
            if length:
                keys = jnp.where(has_context, numbers * self.characters + _before(given, length), NONE)
                known = jnp.unique(keys, size=min(len(keys), self.characters**length), fill_value=NONE)
                numbers = jnp.searchsorted(known, keys).astype(jnp.int32)
            else:
                known = jnp.zeros(1, jnp.int32)
            pairs = jnp.where(has_context, numbers * self.characters + after, NONE)
            kinds, times = jnp.unique(
                pairs, size=min(len(pairs), len(known) * self.characters) + 1, fill_value=NONE, return_counts=True
            )
            of_kind = jnp.where(kinds == NONE, len(known), kinds // self.characters)
            tables[str(length)] = {
                "contexts": known,
                "pairs": kinds,
                "times": times.astype(jnp.int32),
                "total": jnp.zeros(len(known), jnp.int32).at[numbers].add(has_context.astype(jnp.int32), mode="drop"),
                "types": jnp.zeros(len(known), jnp.int32).at[of_kind].add(1, mode="drop"),
            }
        return {}, {"tables": tables}

    def nats(self, tables: PyTree, text: Array) -> Array:
        """Returns −log p of text[1:], f32 [T], of a window i32 [T + 1]."""
        given, after = text[:-1], jnp.maximum(text[1:], 0)
        p = jnp.full(after.shape, 1.0 / self.characters)
        numbers, is_known = jnp.zeros(after.shape, jnp.int32), jnp.ones(after.shape, bool)
        for length in range(self.order):
            table = tables[str(length)]
            if length:
                is_known &= jnp.arange(len(given)) + 1 >= length  # one character is before the first that is predicted
                keys = jnp.where(is_known, numbers * self.characters + _before(given, length), NONE - 1)
                numbers, is_known = _found(table["contexts"], keys)
            places, is_pair = _found(table["pairs"], jnp.where(is_known, numbers * self.characters + after, NONE - 1))
            times = jnp.where(is_pair, table["times"][places], 0).astype(jnp.float32)
            total, types = (table[name][numbers].astype(jnp.float32) for name in ("total", "types"))
            # A context that is unknown says nothing: the shorter one stands.
            p = jnp.where(is_known & (total > 0), (times + types * p) / jnp.maximum(total + types, 1.0), p)
        return -jnp.log(p)

    def measure(self, params: Params, model_state: PyTree, batch: Batch) -> Stats:
        """Returns the sums of a held-out batch, over the characters that its windows measure."""
        nats = jax.vmap(lambda text: self.nats(model_state["tables"], text))(batch[COLUMN])
        counted = measured_places(batch, self.windows)
        sums = {"nats": jnp.sum(jnp.where(counted, nats, 0.0)), "count": jnp.sum(counted).astype(jnp.float32)}
        return {"sums": sums, "rows": {"mask": batch["mask"]}}


def _before(text: Array, length: int) -> Array:
    """Returns the oldest character i32 [T] of the context of a length that ends with each of text [T]; 0 before its start."""
    return jnp.concatenate([jnp.zeros(length - 1, jnp.int32), text[: len(text) - length + 1]])


def _found(known: Array, keys: Array) -> tuple[Array, Array]:
    """Returns (places i32 [T] in the sorted keys that are known, whether each of keys [T] is among them)."""
    places = jnp.minimum(jnp.searchsorted(known, keys), len(known) - 1).astype(jnp.int32)
    return places, known[places] == keys


def _no_prediction(params: Params, model_state: PyTree, inputs: Array) -> Any:
    """Raises UsageError: it has no scores of all characters."""
    raise UsageError("an n-gram model gives the probability of the character that came, and no scores to predict from.")
