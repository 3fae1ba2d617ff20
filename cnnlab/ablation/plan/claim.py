"""The type of a claim of the literature as the catalogue of claims states it. Holds data only; imports no jax."""

import dataclasses
import re
from typing import Literal

Kind = Literal["exact", "statistical", "both"]
"""Whether the claim is decided without a test, by a test over seeds, or has parts of both kinds."""

OWN = "further claims"
"""Chapter of claims that the catalogue lacks, such as those of a user's own experiments."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of the literature."""

    id: str
    """Its id, such as C7, which files, records and cards are named after."""
    sentence: str
    """The claim in a sentence that is true or false, without a full stop."""
    chapter: str
    """The chapter of a lecture that it belongs to."""
    kind: Kind
    """How it is decided."""
    sources: tuple[str, ...] = ()
    """BibTeX keys of the works that state it; the first is the one whose definition counts."""
    disputed_by: tuple[str, ...] = ()
    """BibTeX keys of works that found otherwise, or under other conditions."""

    @property
    def number(self) -> tuple[int, str]:
        """Returns a key that sorts C7 before C13."""
        return number_of(self.id)

    @property
    def page(self) -> str:
        """Returns the name of its card's file, such as c07.md."""
        number, _ = self.number
        return f"c{number:02d}.md" if self.id == f"C{number}" else f"{self.id.lower()}.md"


def number_of(claim: str) -> tuple[int, str]:
    """Returns a key of a claim's id that sorts C7 before C13."""
    digits = re.search(r"\d+", claim)
    return int(digits[0]) if digits else 0, claim
