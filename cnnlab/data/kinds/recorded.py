"""Kinds of columns as JSON, so that a run can say of what kind its columns were without its data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from cnnlab.core import Dataset
from cnnlab.data import kinds
from cnnlab.data.kinds.kind import Kind


def as_json(columns: Mapping[str, Kind]) -> dict[str, dict[str, Any]]:
    """Returns {column: its kind's name and fields}; kinds of a user's own are left out."""
    known = {name: kind for name, kind in columns.items() if getattr(kinds, type(kind).__name__, None) is type(kind)}
    return {name: {"kind": type(kind).__name__, **dataclasses.asdict(kind)} for name, kind in known.items()}


def from_json(recorded: Mapping[str, Mapping[str, Any]]) -> dict[str, Kind]:
    """Returns the kinds of which `as_json` was given; one that this version does not have, or has otherwise, is left out."""
    found: dict[str, Kind] = {}
    for name, fields in recorded.items():
        kind = getattr(kinds, fields["kind"], None)
        if kind is None:
            continue
        own = {field.name for field in dataclasses.fields(kind)}
        found[name] = kind(**{key: _tuples(value) for key, value in fields.items() if key in own})
    return found


def kinds_of(data: Dataset) -> Mapping[str, Kind]:
    """Returns the kinds of the columns, those that a run has kept where the data are opened without their examples."""
    return data.kinds or from_json(data.recorded_kinds)


def _tuples(value: Any) -> Any:
    """Returns lists, as JSON has them, as the tuples that fields hold."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
