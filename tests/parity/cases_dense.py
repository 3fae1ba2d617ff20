"""Networks of reference libraries: DenseNet, MobileNet and EfficientNet."""

from tests.parity.cases import Case

CASES: list[Case] = []
