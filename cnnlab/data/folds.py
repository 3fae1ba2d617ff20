"""Folds of k-fold cross-validation: K parts of the training examples, each of which is held out once for validation.

Which fold an example belongs to is a function of the seed of the partition and of its position, so a run's seed and knobs say
what it saw. The test split is not measured: folds are for choosing, and the test split is measured once, by a run without them,
when the choice is made (Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning, section 7.10).
"""

import dataclasses
from typing import Literal

import numpy as np

from cnnlab.data.source import Source, Split, drawn
from cnnlab.errors import UsageError
from cnnlab.text import counted
from cnnlab.values import OF_RUN, DrawSeed

PURPOSE = 0xF01D00
"""Purpose of the draw of a partition (source.drawn); that of repetition r is PURPOSE + r."""
MOST_REPETITIONS = 0xFF
"""Partitions that have a purpose of their own."""


@dataclasses.dataclass(frozen=True)
class Folds:
    """Says which training examples a run holds out; images.images has the fields as knobs, with their help."""

    count: int
    """K, the number of folds."""
    fold: int | Literal["run"]
    """The fold that is held out, from 0; by OF_RUN the run of seed s holds out fold s mod K of partition s // K."""
    stratify: bool
    """Whether every fold has its share of every class."""
    split_seed: int | None
    """Seed by which the partition is drawn; None: the usual draw."""

    @property
    def of_run(self) -> bool:
        """Whether the seed of a run decides what it holds out."""
        return self.fold == OF_RUN

    def divided(self, part: Split, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Returns the positions (kept, held out) of the training examples of the run of a seed, i32, both ascending."""
        number, repetition = (self.fold, 0) if isinstance(self.fold, int) else (seed % self.count, seed // self.count)
        # Partition 0 is drawn as the one of a fixed fold is: --fold=2 and the run of seed 2 hold out the same examples.
        folds = fold_of_examples(part, self.count, stratify=self.stratify, seed=self.split_seed, repetition=repetition)
        return np.flatnonzero(folds != number).astype(np.int32), np.flatnonzero(folds == number).astype(np.int32)

    def sizes(self, part: Split) -> dict[str, int]:
        """Returns the sizes by which runs are planned: of folds that differ by an example, or by groups, the largest."""
        folds = fold_of_examples(part, self.count, stratify=self.stratify, seed=self.split_seed)
        return {"train": len(part) - -(-len(part) // self.count), "validation": int(np.max(np.bincount(folds)))}

    def key(self) -> str:
        """Returns what they add to the fingerprint of a data set."""
        how = "stratified " if self.stratify else ""
        return f"fold {self.fold} of {self.count} {how}folds drawn by {self.split_seed}"

    def remark(self, name: str, size: int) -> str:
        """Returns the remark on what a run holds out of so many training examples."""
        kind = "stratified folds" if self.stratify else "folds"
        which = f"fold {self.fold}" if isinstance(self.fold, int) else f"fold s mod {self.count}, s the seed of the run,"
        return (
            f"{name}: {which} of {self.count} {kind} of {counted(size, 'training example')} is held out for validation; the "
            "test split is left for a run without --folds"
        )

    def without_test(self, source: Source) -> Source:
        """Returns the source without its test split; raises UsageError for one with a validation split of its own."""
        if "validation" in source.splits:
            raise UsageError(
                f"--folds={self.count} takes the validation examples from the training split, and {source.name} has a "
                "validation split of its own.\nLeave --folds out."
            )
        return dataclasses.replace(source, splits={name: part for name, part in source.splits.items() if name != "test"})


def folds_of(
    count: int | None, fold: int | Literal["run"], *, stratify: bool, split_seed: DrawSeed, examples_seed: DrawSeed
) -> Folds | None:
    """Returns the folds of the knobs of these names; None without folds. Raises UsageError where they do not fit together."""
    if count is None:
        if fold != OF_RUN or not stratify:
            flag = "--stratify=false" if fold == OF_RUN else f"--fold={fold}"
            raise UsageError(f"{flag} is about the folds of --folds=K, which is not given. Add it, or leave {flag} out.")
        return None
    if isinstance(fold, int) and fold >= count:
        raise UsageError(f"--fold={fold} of --folds={count}: give a number from 0 to {count - 1}, or run.")
    for flag, drawn_by in (("--examples_seed", examples_seed), ("--split_seed", split_seed)):
        if drawn_by == OF_RUN:
            raise UsageError(
                f"{flag}=run: folds are parts of one set of examples in one order, and these would be others in every run.\n"
                f"Give {flag} a number, or none."
            )
    return Folds(count, fold, stratify, None if split_seed is None else int(split_seed))


def fold_of_examples(
    part: Split, count: int, *, stratify: bool = True, seed: int | None = None, repetition: int = 0
) -> np.ndarray:
    """Returns the fold of every example, i32 [N] in [0, K); each is in one, and the groups of a column `group` are whole.

    Without groups the sizes of two folds differ by at most one example, and so do those of their classes where folds are
    stratified. Groups are dealt one by one, the largest first, each to the fold with the smallest share of its classes so far.

    Args:
        part: the training examples, or their columns `label`, `stratum` and `group`.
        count: K.
        stratify: whether every fold has its share of every class.
        seed: seed of the partition; None: the usual one.
        repetition: number of the partition among those of the same seed.
    """
    strata = part.strata if stratify else np.zeros(len(part), np.int32)
    groups = part.columns.get("group")
    units = len(part) if groups is None else len(np.unique(np.asarray(groups)))
    if units < count:
        what = "training examples" if groups is None else "groups of training examples"
        raise UsageError(f"--folds={count}: there are {units} {what}. Give at most that many folds.")
    purpose = PURPOSE + repetition % (MOST_REPETITIONS + 1)
    if groups is not None:
        return _grouped(strata, np.asarray(groups), count, purpose, seed)
    # In drawn order within each class, class after class, examples are dealt to the folds in turn.
    order = drawn(len(part), purpose, seed)
    order = order[np.argsort(strata[order], kind="stable")]
    folds = np.empty(len(part), np.int32)
    folds[order] = np.arange(len(part)) % count
    return folds


def _grouped(strata: np.ndarray, groups: np.ndarray, count: int, purpose: int, seed: int | None) -> np.ndarray:
    """Returns the fold of every example, i32 [N], such that no group is in two; see `fold_of_examples`."""
    named, members = np.unique(groups, return_inverse=True)
    classes, numbers = np.unique(strata, return_inverse=True)
    sizes = np.zeros((len(named), len(classes)))  # examples by group and class
    np.add.at(sizes, (members, numbers), 1)
    shares = sizes / sizes.sum(axis=0)  # of all examples of the class
    order = drawn(len(named), purpose, seed)
    order = order[np.argsort(-sizes.sum(axis=1)[order], kind="stable")]
    held = np.zeros((count, len(classes)))  # share of every class in every fold so far
    examples = np.zeros(count)
    fold_of_group = np.empty(len(named), np.int32)
    for group in order.tolist():
        # Of Σ_folds Σ_classes share², the part that the choice of the fold changes; of equals, the fold with fewest examples.
        cost = held @ shares[group]
        chosen = int(np.lexsort((examples, np.round(cost, 12)))[0])
        fold_of_group[group] = chosen
        held[chosen] += shares[group]
        examples[chosen] += sizes[group].sum()
    return fold_of_group[members]
