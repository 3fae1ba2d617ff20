"""Networks of reference libraries: AlexNet, ZFNet, VGG and SqueezeNet."""

from tests.parity.cases import Case

CASES: list[Case] = []
