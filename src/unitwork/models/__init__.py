"""This package holds the declarative bases, and mixins with columns that many models have."""

from unitwork.models.base import Base, DataclassBase
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
