"""This module decides whether values of one class can stand where a database has another."""

from __future__ import annotations

import enum
import typing
from collections.abc import Mapping
from typing import Any

from unitwork._logic.paging import CursorRequest, PageRequest
from unitwork._logic.values.annotations import NOTHING, element_of, plain_type, without_none
from unitwork._logic.values.classes import CLASSES

_OTHER_SAMPLES: Mapping[type, object] = {
    dict: {},
    PageRequest: PageRequest(),
    CursorRequest: CursorRequest(),
}


def fits_classes(own: type, wanted: type) -> bool:
    """Say whether values of one class can be compared with values of another."""
    known = CLASSES.get(own)
    # What is not known is not refused.
    return known is None or wanted not in CLASSES or wanted in known.compared


def fits_result(annotation: object, given: type) -> bool:
    """Say whether values of this type can become what the annotation says."""
    known = CLASSES.get(plain_type(annotation))
    return known is None or given not in CLASSES or given in known.answered


def sample(annotation: object) -> Any:  # noqa: ANN401  # a value of any type
    """Return a value that a parameter with this annotation may have; None if none is known."""
    single = without_none(annotation)
    element = element_of(single)
    if element is not NOTHING:
        parts = [part for part in typing.get_args(single) if part is not Ellipsis]
        # Two at least: a range needs both of its ends.
        return [sample(part) for part in parts] if len(parts) > 1 else [sample(element)] * 2
    if typing.get_origin(single) in (typing.Union, typing.Literal):
        first = typing.get_args(single)[0]
        return first if typing.get_origin(single) is typing.Literal else sample(first)
    if isinstance(single, type) and issubclass(single, enum.Enum):
        return next(iter(single), None)
    kind: Any = typing.get_origin(single) or single
    known = CLASSES.get(kind)
    return known.sample if known is not None else _OTHER_SAMPLES.get(kind)
