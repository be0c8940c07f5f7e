"""This module says what is refused inside a transaction."""

from __future__ import annotations

from unitwork.errors import TransactionRefusedError, UnexpectedRollbackError

_FIXES = {
    "commit": "leave the block: it commits by itself; to commit earlier, make the block smaller.",
    "rollback": "raise an exception, or call `db.set_rollback_only()`.",
    "close": "leave the block: it closes its session by itself.",
    "begin": "use `db.transaction(propagation=NESTED)` for a savepoint, REQUIRES_NEW for one apart.",
}


def by_hand_refused(database: str, owner: str, verb: str) -> TransactionRefusedError:
    """Build the error for a commit, rollback, close or begin by hand inside a block."""
    return TransactionRefusedError(
        database,
        f"`{verb}` by hand on database {database!r} is refused inside {_transaction_block(owner)}.",
        _FIXES.get(verb, _FIXES["close"]),
    )


def _transaction_block(owner: str) -> str:
    """Return a block with what it is; the names of those without one of their own say that already."""
    if owner.startswith("the block "):
        return owner.replace("the block", "the transaction block", 1)
    return owner if owner.startswith("the ") else f"the transaction block {owner}"


def committed_inside(database: str, owner: str, statement: str) -> TransactionRefusedError:
    """Build the error for a transaction that a statement in its block has committed: half is stored."""
    return TransactionRefusedError(
        database,
        f"What {owner} had written on database {database!r} was committed in the middle of the block.",
        "run what commits outside of the block, or as its first statement.",
        [f"Statement: {' '.join(statement.split())}"],
    )


def ended_unseen(database: str, owner: str) -> TransactionRefusedError:
    """Build the error for a transaction that is over, of which its driver alone has heard."""
    return TransactionRefusedError(
        database,
        f"The transaction of {owner} on database {database!r} was ended past SQLAlchemy, before the block.",
        "leave COMMIT, ROLLBACK and scripts on the connection of the driver to what runs outside of blocks.",
        ["What it had written is stored if that was a COMMIT, and lost if it was a ROLLBACK."],
    )


def failed_unseen(database: str, owner: str) -> UnexpectedRollbackError:
    """Build the error for a transaction in which a statement has failed, of which its driver alone knows."""
    return UnexpectedRollbackError(database, f"{owner}, on the connection of the driver")


def condemned(database: str, block: str, error: BaseException | None) -> TransactionRefusedError:
    """Build the error for whatever comes after a statement that has failed; it would be half of the work."""
    return TransactionRefusedError(
        database,
        f"The transaction on database {database!r} can only roll back: a statement failed.",
        "let the error end the block, or run what may fail with NESTED.",
        [f"Failed in: {block} ({type(error).__name__})"],
    )
