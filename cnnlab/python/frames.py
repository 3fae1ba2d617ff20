"""Tables as pandas frames, where pandas is installed. Imports no jax."""

from collections.abc import Iterable, Mapping
from typing import Any

from cnnlab.errors import UsageError


def frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Returns a pandas.DataFrame of rows; raises UsageError where pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise UsageError("a frame needs pandas, which is not installed.\nInstall it: pip install pandas") from None
    return pandas.DataFrame(list(rows))
