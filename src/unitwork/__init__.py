"""Transactions, sessions and repositories for async SQLAlchemy."""

import importlib
from typing import TYPE_CHECKING

from unitwork.database import Database, get_session
from unitwork.errors import (
    AfterCommitError,
    CommitOutcomeUnknownError,
    ConflictTargetError,
    CursorError,
    DatabaseChoiceError,
    DeclarationError,
    MissingExtraError,
    NoRowError,
    NoTransactionError,
    OptionError,
    QueryDeclarationError,
    ReplicaError,
    RowCountError,
    RowError,
    StaleRowError,
    TooManyRowsError,
    TransactionEndedError,
    TransactionRefusedError,
    TransactionTimeoutError,
    UnexpectedRollbackError,
    UnitworkError,
    UnloadedAttributeError,
)
from unitwork.options import Isolation, Lane, Propagation, RetryPolicy, TransactionOptions
from unitwork.query import query
from unitwork.repository import Repository, repository
from unitwork.transaction import TransactionBlock, transactional
from unitwork.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from unitwork._logic.findings import CheckReport, Finding
    from unitwork._logic.paging import CursorPage, CursorRequest, Page, PageRequest, Sort
    from unitwork._logic.routing import LaneChoice
    from unitwork.adoption import AdoptedBlock
    from unitwork.models import (
        Base,
        DataclassBase,
        IntPKMixin,
        PGUUIDPKMixin,
        SoftDeleteMixin,
        StatusMixin,
        TimestampMixin,
        UTCDateTime,
        UUIDPKMixin,
        VersionMixin,
    )
    from unitwork.settings import DatabaseSettings
    from unitwork.snapshot import Ping, PoolStatus

__all__ = [
    "AdoptedBlock",
    "AfterCommitError",
    "Base",
    "CheckReport",
    "CommitOutcomeUnknownError",
    "ConflictTargetError",
    "CursorError",
    "CursorPage",
    "CursorRequest",
    "Database",
    "DatabaseChoiceError",
    "DatabaseSettings",
    "DataclassBase",
    "DeclarationError",
    "Finding",
    "IntPKMixin",
    "Isolation",
    "Lane",
    "LaneChoice",
    "MissingExtraError",
    "NoRowError",
    "NoTransactionError",
    "OptionError",
    "PGUUIDPKMixin",
    "Page",
    "PageRequest",
    "Ping",
    "PoolStatus",
    "Propagation",
    "QueryDeclarationError",
    "ReplicaError",
    "Repository",
    "RetryPolicy",
    "RowCountError",
    "RowError",
    "SoftDeleteMixin",
    "Sort",
    "StaleRowError",
    "StatusMixin",
    "TimestampMixin",
    "TooManyRowsError",
    "TransactionBlock",
    "TransactionEndedError",
    "TransactionOptions",
    "TransactionRefusedError",
    "TransactionTimeoutError",
    "UTCDateTime",
    "UUIDPKMixin",
    "UnexpectedRollbackError",
    "UnitOfWork",
    "UnitworkError",
    "UnloadedAttributeError",
    "VersionMixin",
    "get_session",
    "query",
    "repository",
    "transactional",
]

_LATER = {
    "AdoptedBlock": "unitwork.adoption",
    "Base": "unitwork.models",
    "CheckReport": "unitwork._logic.findings",
    "CursorPage": "unitwork._logic.paging",
    "CursorRequest": "unitwork._logic.paging",
    "DatabaseSettings": "unitwork.settings",
    "DataclassBase": "unitwork.models",
    "Finding": "unitwork._logic.findings",
    "IntPKMixin": "unitwork.models",
    "LaneChoice": "unitwork._logic.routing",
    "PGUUIDPKMixin": "unitwork.models",
    "Page": "unitwork._logic.paging",
    "PageRequest": "unitwork._logic.paging",
    "Ping": "unitwork.snapshot",
    "PoolStatus": "unitwork.snapshot",
    "SoftDeleteMixin": "unitwork.models",
    "Sort": "unitwork._logic.paging",
    "StatusMixin": "unitwork.models",
    "TimestampMixin": "unitwork.models",
    "UTCDateTime": "unitwork.models",
    "UUIDPKMixin": "unitwork.models",
    "VersionMixin": "unitwork.models",
}
"""Where names are that not all programs use: they are imported when somebody asks for them."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
