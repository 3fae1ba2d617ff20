"""Networks of reference libraries: GoogLeNet and its successors."""

from tests.parity.cases import Case

CASES: list[Case] = []
