"""The verb that writes the page of claims: claims."""

import os
import pathlib
from typing import TYPE_CHECKING, Any

from cnnlab import home, own
from cnnlab.cli.common import setup_jax
from cnnlab.cli.groups import Console
from cnnlab.errors import UsageError
from cnnlab.runs.catalogue import launchable_files
from cnnlab.values import Target

if TYPE_CHECKING:
    from cnnlab.ablation.report.cards.card import ClaimFile

CATALOGUE = home.EXPERIMENTS / "claims" / "catalogue.py"
BIBLIOGRAPHY = CATALOGUE.with_name("references.bib")


def claims(*folders: str, to: Target | None = None, console: Console) -> int:
    """Writes the page of claims from the verdicts of studies and measurements: an index, a card and a figure for each.

    Args:
        folders: folders of studies and measurements, or folders above them; none: the page is written again from its records.
        to: folder of the page; none: docs/claims.
        console: what is shown.
    """
    from cnnlab.ablation.report.bibliography import read_bibliography
    from cnnlab.ablation.report.cards.write import PAGE, write_page

    target = pathlib.Path(to or "docs/claims")
    if not folders and not (target / PAGE).is_file():
        raise UsageError(f"claims of what? Give the folders of studies, or the folder above them: {home.COMMAND} claims runs")
    catalogue: Any = own.load_module(CATALOGUE, where="the catalogue of claims") if CATALOGUE.is_file() else None
    works = read_bibliography(BIBLIOGRAPHY.read_text(encoding="utf-8")) if BIBLIOGRAPHY.is_file() else {}
    print(
        write_page(
            [pathlib.Path(folder) for folder in folders],
            target,
            claims=catalogue.CLAIMS if catalogue else (),
            chapters=catalogue.CHAPTERS if catalogue else (),
            declared=declared_files(target),
            works=works,
        )
    )
    return 0


def declared_files(target: pathlib.Path) -> "list[ClaimFile]":
    """Returns the files of experiments/ that declare a test of a claim. Imports them, and with them jax.

    Args:
        target: folder of the page, from which their links begin.
    """
    setup_jax(None)
    from cnnlab.ablation.report.cards.card import ClaimFile

    found, is_here = [], target.resolve().is_relative_to(home.EXPERIMENTS.parent)
    for name, path in sorted(launchable_files().items()):
        if "claims" not in path.parts:
            continue
        module = own.load_module(path, where=str(path))
        test: Any = getattr(module, "measurement", None)
        verb = "measure"
        if test is None:
            test, verb = getattr(module, "study", None), "ablate"
        if getattr(test, "claim", ""):
            link = pathlib.PurePath(os.path.relpath(path, target.resolve())).as_posix() if is_here else ""
            found.append(ClaimFile(name, test.claim, verb, test.question, test.card, link))
    return found
