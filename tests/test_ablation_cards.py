"""The catalogue of claims, its bibliography, the cards of claims and their figures; all from made-up records."""

import pytest

from cnnlab.ablation.report.bibliography import read_bibliography
from cnnlab.runs.catalogue import ROOT
from experiments.claims.catalogue import CHAPTERS, CLAIMS

WORKS = read_bibliography((ROOT / "experiments" / "claims" / "references.bib").read_text(encoding="utf-8"))


def test_the_catalogue_has_every_claim_once_as_a_sentence():
    assert [claim.id for claim in CLAIMS] == [f"C{number}" for number in range(1, len(CLAIMS) + 1)]
    assert {claim.chapter for claim in CLAIMS} == set(CHAPTERS)
    assert not [claim.id for claim in CLAIMS if claim.sentence.endswith((".", "?")) or not claim.sentence[0].isupper()]
    assert len({claim.page for claim in CLAIMS}) == len(CLAIMS)


def test_the_catalogue_cites_all_works_of_the_bibliography_and_no_others():
    cited = {key for claim in CLAIMS for key in (*claim.sources, *claim.disputed_by)}
    assert cited == set(WORKS) and all(claim.sources for claim in CLAIMS)
    assert all({"author", "title"} <= set(work.fields) for work in WORKS.values())


@pytest.mark.parametrize(
    ("key", "cited"),
    [
        ("he2016", "He et al. 2016"),
        ("kingma2015", "Kingma and Ba 2015"),
        ("vandenoord2016", "van den Oord et al. 2016"),
        ("codella2019", "Codella et al. 2019"),
        ("cs231n", "Stanford University, CS231n"),
        ("montufar2014", "Montúfar et al. 2014"),
    ],
)
def test_a_work_is_cited_by_family_names_and_year(key: str, cited: str):
    assert WORKS[key].cited == cited
