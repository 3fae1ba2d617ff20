"""Networks of reference libraries: ResNet, pre-activation ResNet, Wide ResNet and ResNeXt."""

from tests.parity.cases import Case

CASES: list[Case] = []
