"""The words of verdicts on claims, and the rule that makes one verdict of the verdicts on the parts of a claim."""

from collections.abc import Sequence

from cnnlab.ablation.analyse import statistics
from cnnlab.ablation.plan.study import Verdict

EXACT = "exact"
"""Holds to the declared tolerance in every run."""
REPLICATED = "replicated"
"""The test decides for the claim, in the source's own setting."""
SUPPORTED = "supported at small scale"
"""The test decides for the claim, on smaller data, networks or lengths of training than the source's."""
IN_PART = "supported in part"
"""Some of the parts that decide are supported, after a correction for their number, and others are not."""
NOT_SHOWN = "not shown"
"""The test decides neither way, and the interval holds effects that would matter."""
ABSENT = "absent"
"""The interval excludes the smallest effect of interest; a smaller effect may be there, and even be decided."""
OPPOSITE = "opposite"
"""The test decides for the opposite, at small scale; this refutes no source."""
REFUTED = "refuted"
"""An exact statement that is false, or the opposite in the source's own setting."""
NOT_TESTED = "not tested"
"""Something that the claim presupposes does not hold: an arm is below par, a control did not fail, runs are missing."""

WORDS = {
    EXACT: "it holds to the declared tolerance in every run",
    REPLICATED: "decided for the claim in the source's own setting",
    SUPPORTED: "decided for the claim, on smaller data, networks or lengths of training than the source's",
    IN_PART: "some of its parts are supported, after a correction for their number, others are not",
    NOT_SHOWN: "decided neither way",
    ABSENT: "the interval excludes the smallest effect of interest; a smaller one may be there",
    OPPOSITE: "decided for the opposite at small scale, which refutes no source",
    REFUTED: "an exact statement that is false, or the opposite in the source's own setting",
    NOT_TESTED: "something that the claim presupposes does not hold or was not checked",
}
"""{word: what it means}, for the page of claims."""

ALPHA = 0.05
"""Level of the tests of verdicts, two-sided."""
FOR = (EXACT, REPLICATED, SUPPORTED)
AGAINST = (REFUTED, OPPOSITE)


def in_words(verdict: Verdict) -> str:
    """Returns the word of a verdict as it is shown.

    An effect that is decided for the claim, and yet too small to matter, is not said not to be there.
    """
    deciding = [part for part in verdict.parts if part.role == "decides"] or [verdict]
    is_there = all(part.p is not None and part.p < ALPHA for part in deciding)
    return f"{ABSENT} (smaller than of interest)" if verdict.verdict == ABSENT and is_there else verdict.verdict


def survives(parts: Sequence[Verdict], words: Sequence[str]) -> list[bool]:
    """Returns for each part whether its word is one of `words` after Holm's correction over all parts.

    A part with another word counts in the family with a p of 1. What is exact has no p, and stays.
    """
    corrected = statistics.holm([part.p if part.verdict in words else 1.0 for part in parts])
    return [
        part.verdict in words and (part.p is None or (p is not None and p < ALPHA))
        for part, p in zip(parts, corrected, strict=True)
    ]


def combined(parts: Sequence[Verdict]) -> str:
    """Returns the word for a claim from the verdicts on its parts, each by its own test without a correction.

    Parts that are only shown decide nothing. For support all must hold, so their p-values need no correction (an
    intersection-union test; Berger 1982, Technometrics 24(4)). One part is enough for the opposite, or for support in part, so
    these are corrected by Holm's method over the parts that decide.
    """
    if any(part.role == "required" and part.verdict not in FOR for part in parts):
        return NOT_TESTED
    deciding = [part for part in parts if part.role == "decides"]
    found = [part.verdict for part in deciding]
    if NOT_TESTED in found:
        return NOT_TESTED
    if all(word in FOR for word in found):
        # The weakest of them: exact only where all are.
        return next(word for word in (SUPPORTED, REPLICATED, EXACT) if word in found)
    if any(part.exact and part.verdict == REFUTED for part in deciding):
        return REFUTED
    against = survives(deciding, AGAINST)
    if any(survives(deciding, FOR)):
        return IN_PART
    if any(against):
        return REFUTED if REFUTED in found else OPPOSITE
    return ABSENT if all(word == ABSENT for word in found) else NOT_SHOWN
