"""This module says why a transaction block is not ended by hand."""

from __future__ import annotations

from unitwork.errors import TransactionRefusedError


def by_hand_refused(database: str, verb: str, block: str) -> TransactionRefusedError:
    """Build the error for a commit, rollback, close or begin by hand inside a block."""
    fixes = {
        "commit": "leave the block: it commits by itself; to commit earlier, make the block smaller.",
        "rollback": "raise an exception, or call `db.set_rollback_only()`.",
        "close": "leave the block: it closes its session by itself.",
        "begin": "use `db.transaction(propagation=NESTED)` for a savepoint, REQUIRES_NEW for one apart.",
    }
    return TransactionRefusedError(
        database,
        f"`{verb}` by hand on database {database!r} is refused inside the transaction block {block}.",
        fixes[verb],
    )
