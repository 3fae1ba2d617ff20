"""The verb that writes the table of results from the folders of runs: results. It imports no jax."""

import pathlib

from cnnlab.cli.groups import Console
from cnnlab.text import counted
from cnnlab.values import Target


def results(*folders: str, to: Target | None = None, records: Target | None = None, console: Console) -> int:
    """Writes the table of the shipped experiments' results into docs/results.md, from the folders of their runs.

    Args:
        folders: folders of runs, or folders above them; none: the table is written again from the records.
        to: file with the two marks between which the table stands; none: docs/results.md.
        records: folder of the records, from which a row is written when its runs are gone; none: docs/results.
        console: what is shown.
    """
    from cnnlab.overview.results import write_results

    page, place = pathlib.Path(to or "docs/results.md"), pathlib.Path(records or "docs/results")
    written = write_results([pathlib.Path(folder) for folder in folders], place, page)
    known = counted(len(list(place.glob("*.json"))), "experiment")
    new = f"; written from runs: {', '.join(written)}" if written else ""
    print(f"the table in {page} shows results of {known}, of which {place} has the records{new}")
    return 0
