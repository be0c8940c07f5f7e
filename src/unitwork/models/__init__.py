"""This package holds the declarative bases, and mixins with columns that many models have."""

import importlib
from typing import TYPE_CHECKING

from unitwork.models.base import Base, DataclassBase

if TYPE_CHECKING:
    from unitwork.models.keys import IntPKMixin, PGUUIDPKMixin, UUIDPKMixin, random_uuid
    from unitwork.models.soft_delete import SoftDeleteMixin
    from unitwork.models.status import StatusMixin
    from unitwork.models.timestamps import TimestampMixin, UTCDateTime, utc_now
    from unitwork.models.version import VersionMixin

__all__ = [
    "Base",
    "DataclassBase",
    "IntPKMixin",
    "PGUUIDPKMixin",
    "SoftDeleteMixin",
    "StatusMixin",
    "TimestampMixin",
    "UTCDateTime",
    "UUIDPKMixin",
    "VersionMixin",
    "random_uuid",
    "utc_now",
]

_LATER = {
    "IntPKMixin": "keys",
    "PGUUIDPKMixin": "keys",
    "SoftDeleteMixin": "soft_delete",
    "StatusMixin": "status",
    "TimestampMixin": "timestamps",
    "UTCDateTime": "timestamps",
    "UUIDPKMixin": "keys",
    "VersionMixin": "version",
    "random_uuid": "keys",
    "utc_now": "timestamps",
}
"""Where the columns are that many models have, but not all: imported when somebody asks for them."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
