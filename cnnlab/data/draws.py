"""Draws by the seed of each run: the training examples that it learns from, and those that it holds out for validation.

A study whose claim is about data like these, and not about one draw of them, gives --examples_seed=run or --split_seed=run: the
spread over its seeds then holds that of the draw, too. Arms stay paired, since a seed draws the same examples in all of them.
The data set is opened once, with all training examples, and a draw is the positions of some of them: so all seeds share a
compilation, one batched program among them, and a run's seed and knobs say what it saw.
"""

import dataclasses

import numpy as np

from cnnlab.data.few_labels import few_per_class
from cnnlab.data.folds import Folds
from cnnlab.data.source import Source, Split
from cnnlab.errors import UsageError
from cnnlab.text import counted
from cnnlab.values import OF_RUN, DrawSeed, seed_of_draw


@dataclasses.dataclass(frozen=True, eq=False)
class Draws:
    """Implements core.Dataset.draws."""

    pool: Split = dataclasses.field(repr=False)
    """The labels of the training examples of which the runs draw."""
    classes: int
    """Number of classes; 0 without labels."""
    examples_per_class: int | None
    """Number of examples of each class that the seed of the run draws; None: all examples."""
    validation: float
    """Share of these that is held out; 0: none."""
    split_seed: DrawSeed
    """Seed by which that share is drawn."""
    folds: Folds | None = None
    """The folds of which the seed of the run chooses the one that is held out, in place of a share."""

    def __call__(self, split: str, seed: int) -> np.ndarray:
        """Returns the positions i32 [M], ascending, of the examples of train or validation for the run of a seed."""
        chosen = np.arange(len(self.pool), dtype=np.int32)
        if self.examples_per_class is not None:
            chosen = few_per_class(self.pool.labels, self.classes, self.examples_per_class, seed)
        if self.folds is not None:
            kept, held_out = self.folds.divided(self.pool, seed)
        else:
            kept, held_out = self.pool.at(chosen).divided(self.validation, seed_of_draw(self.split_seed, seed))
        return chosen[kept if split == "train" else held_out]

    def sizes(self) -> dict[str, int]:
        """Returns the number of examples of train and, where any are held out, validation: the same for every seed.

        The sizes of folds may differ a little; those by which runs are planned are the same for all (Folds.sizes).
        """
        if self.folds is not None:
            return self.folds.sizes(self.pool)
        found = {split: len(self(split, 0)) for split in ("train", "validation")}
        return {split: size for split, size in found.items() if size}

    def key(self) -> str:
        """Returns what they add to the fingerprint of a data set."""
        if self.folds is not None:
            return f"drawn by the seed of the run: {self.folds.key()}"
        each = "all" if self.examples_per_class is None else self.examples_per_class
        return f"drawn by the seed of the run: {each} of each class, {self.validation:g} held out by {self.split_seed}"

    def remarks(self, name: str) -> list[str]:
        """Returns the remark on what each run draws."""
        if self.folds is not None:
            return [self.folds.remark(name, len(self.pool))]
        sizes = ", ".join(f"{size:,} for {split}" for split, size in self.sizes().items())
        return [f"{name}: the seed of each run draws, of {counted(len(self.pool), 'training example')}, {sizes}"]


def draws_of(
    source: Source,
    *,
    examples_per_class: int | None,
    validation: float,
    split_seed: DrawSeed,
    folds: Folds | None = None,
) -> Draws | None:
    """Returns the draws from the training examples of a source; None where the seed of a run draws nothing.

    Raises UsageError where the parts would differ in size from seed to seed.

    Args:
        source: the data set.
        examples_per_class: number of examples of each class that the seed of the run draws; None: all.
        validation: share of train that is held out, unless the data set has a validation split of its own.
        split_seed: seed by which that share is drawn.
        folds: folds, one of which is held out in place of that share.
    """
    train, share = source.splits["train"], 0.0 if "validation" in source.splits else validation
    # Every split has a column, by which its examples are counted.
    labels = {"label": train.labels} if "label" in train.columns else {"stratum": train.strata}
    if folds is not None:
        labels |= {"group": train.columns["group"]} if "group" in train.columns else {}
        return Draws(Split(labels), len(source.class_names), None, 0.0, None, folds) if folds.of_run else None
    if examples_per_class is None and (split_seed != OF_RUN or not share):
        return None
    if share and "group" in train.columns:
        raise UsageError(
            f"the examples of {source.name} belong to groups, which are held out whole: the number of training examples would "
            "differ from seed to seed, and with it the length of training.\nGive --validation=0, or else --split_seed a number "
            "and --examples_seed none or a number."
        )
    return Draws(Split(labels), len(source.class_names), examples_per_class, share, split_seed)
