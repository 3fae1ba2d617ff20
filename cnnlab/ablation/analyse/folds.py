"""Runs that share training examples, as the folds of cross-validation do: how far that is, and what the report says of it."""

from collections.abc import Collection

from cnnlab.ablation.plan.study import RunResult


def count_of(outcomes: Collection[RunResult]) -> int | None:
    """Returns K where the seed of a run chooses which of K folds it holds out; None without folds, or for a fixed one."""
    return max((one.provenance["folds"] for one in outcomes if one.provenance.get("folds")), default=None)


def overlap_of(folds: int | None) -> float:
    """Returns the examples that a run is measured on for each that it is trained on, 1 / (K − 1); 0 without folds."""
    return 0.0 if folds is None else 1 / (folds - 1)


def remarks(folds: int | None, seeds: Collection[int]) -> list[str]:
    """Returns what the report says of folds: how runs are paired, by which variance they are compared, and what is left to do.

    Args:
        folds: K; None: no folds, nothing is said.
        seeds: the seeds of the study.
    """
    if folds is None:
        return []
    found = [
        f"Cross-validation: the run of seed s holds out fold s mod {folds} of partition s // {folds}, so arms are paired by "
        f"fold. Folds share training examples, so intervals and p are by the variance (1/n + 1/{folds - 1}) s² instead of s²/n "
        "(Nadeau & Bengio 2003; Bouckaert & Frank 2004); sign flips, ranks and bootstrap, which take runs for independent, are "
        "left out. "
        "The test split was not used: when the choice is made, a run without --folds measures it once."
    ]
    held_out = sorted(seed % folds for seed in seeds)
    if any(held_out.count(number) != held_out.count(0) for number in range(folds)):
        found.append(f"{len(held_out)} seeds are no whole partitions of {folds} folds, so some folds count more than others.")
    return found
