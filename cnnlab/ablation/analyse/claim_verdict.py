"""The verdict rule of a claim of several parts: those that decide, those that are only shown, and what it presupposes."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from cnnlab.ablation.analyse import summary, words
from cnnlab.ablation.analyse.results import Analysis
from cnnlab.ablation.analyse.rules import Look, Rule, VerdictRule
from cnnlab.ablation.analyse.verdicts import contrast
from cnnlab.ablation.plan.study import Verdict
from cnnlab.errors import UsageError

Setting = Literal["small", "source"]
"""Whether the study has the data, networks and lengths of training of the claim's source, or smaller ones."""
AT_SOURCE = {words.SUPPORTED: words.REPLICATED, words.OPPOSITE: words.REFUTED}
"""{word at small scale: word in the source's own setting}."""


@dataclasses.dataclass(frozen=True)
class Every:
    """Combines the parts of a claim by words.combined; made by `every`."""

    decides: tuple[Rule, ...]
    shown: tuple[Rule, ...]
    requires: tuple[Rule, ...]
    setting: Setting
    scope: str

    @property
    def roles(self) -> list[tuple[str, Rule]]:
        """Returns (role, rule) of every part, first what is required."""
        named = (("required", self.requires), ("decides", self.decides), ("shown", self.shown))
        return [(role, rule) for role, rules in named for rule in rules]

    def __call__(self, analysis: Analysis, look: Look | None = None) -> Verdict:
        """Returns the verdict on the claim; the study's negative controls are required too (`with_controls`).

        `look` gives the analyses of parts that compare other metrics.
        """
        found = self.of([dataclasses.replace(judged(rule, analysis, look), role=role) for role, rule in self.roles])
        return with_controls(found, analysis)

    def of(self, parts: Sequence[Verdict]) -> Verdict:
        """Returns the verdict on the claim from those on its parts.

        Its effect, interval, p and n are those of the part that settles the word: of those that decide, the first that is not
        supported, else the one with the largest p.
        """
        if self.setting == "source":
            parts = [dataclasses.replace(part, verdict=AT_SOURCE.get(part.verdict, part.verdict)) for part in parts]
        deciding = [part for part in parts if part.role == "decides"]
        open_ = [part for part in deciding if part.verdict not in words.FOR]
        against = [part for part in open_ if part.verdict in words.AGAINST]
        decisive = (against or open_ or [max(deciding, key=lambda part: part.p or 0.0)])[0]
        word = words.combined(parts)
        found = dataclasses.replace(decisive, verdict=word, parts=tuple(parts), role="decides", says="", scope=self.scope)
        sentence = " ".join(summary.claim_parts(dataclasses.replace(found, sentence="")))
        return dataclasses.replace(found, sentence=f"{sentence} Scope: {self.scope}." if self.scope else sentence)


def every(
    *rules: Rule, shown: Sequence[Rule] = (), requires: Sequence[Rule] = (), setting: Setting = "small", scope: str = ""
) -> Every:
    """Combines the parts of a claim: supported where all that decide are.

    Args:
        rules: the parts that decide.
        shown: parts that the source does not claim; they have a verdict of their own and decide nothing.
        requires: what the claim presupposes, such as an arm above chance; where one is not supported the claim is not tested.
            The negative controls that a study declares as `controls` are required without being named here.
        setting: whether this is the source's own setting, in which alone a test can replicate or refute it.
        scope: data, networks and length of training in a few words, which the sentence ends with.
    """
    return Every(rules, tuple(shown), tuple(requires), setting, scope)


def judged(rule: VerdictRule, analysis: Analysis, look: Look | None = None) -> Verdict:
    """Returns the verdict of a rule; `not tested` with the reason where it cannot decide from the numbers that there are.

    An accuracy of 1 has no logit, for one, and no rule may take the report of runs that were trained with it.
    """
    try:
        return rule(analysis, look)
    except UsageError as error:
        claim, says, metric = (getattr(rule, name, "") for name in ("claim", "says", "metric"))
        sentence = f"{f'{says}: ' if says else ''}{' '.join(str(error).split())}"
        return Verdict(claim, words.NOT_TESTED, None, None, None, 0, sentence, says=says, metric=metric or analysis.metric)


def with_controls(found: Verdict, analysis: Analysis) -> Verdict:
    """Returns the verdict on a claim, which requires that every negative control of the study does worse than its baseline.

    The file need not name them. A control that is a requirement of the verdict already is not added again.
    """
    parts = found.parts or (dataclasses.replace(found, says=found.says or found.sentence.partition(":")[0]),)
    there = {part.comparison for part in parts if part.role == "required"}
    rules = [_control(found.claim, row.arm, analysis) for row in analysis.rows if row.control]
    required = [dataclasses.replace(rule(analysis), role="required") for rule in rules]
    required = [part for part in required if part.comparison not in there]
    if not required:
        return found
    rest = summary.claim_parts(found)[len(found.parts) :] if found.parts else []
    whole = dataclasses.replace(found, parts=(*required, *parts), sentence="")
    failed = any(part.verdict not in words.FOR for part in required)
    return dataclasses.replace(
        whole,
        verdict=words.NOT_TESTED if failed else found.verdict,
        sentence=" ".join([*summary.claim_parts(whole), *rest]),
    )


def _control(claim: str, arm: str, analysis: Analysis) -> Rule:
    """Returns the requirement that a negative control does worse than the baseline, or says that the metric cannot show it."""
    if analysis.declared.higher_is_better is None:
        return unmet(claim, f"The control {arm} was not checked, since neither more nor less {analysis.metric} is better")
    return contrast(claim, arm, "worse", f"The negative control {arm} fails")


def unmet(claim: str, says: str) -> Rule:
    """Returns a requirement that the study is known not to meet, or does not check: the claim is then not tested.

    Args:
        claim: its id.
        says: what is not met, and by what.
    """
    return Rule(claim, says, lambda _: Verdict(claim, words.NOT_TESTED, None, None, None, 0, f"{says}."))
