"""This module lets the owner of a connection know of COMMIT and ROLLBACK, and refuse ends by hand.

It also keeps SQLAlchemy from sending what was sent ahead of it.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from unitwork.dialects.backend import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from sqlalchemy import Connection, Engine


_AHEAD = "unitwork_ahead"
"""The attribute that a connection has while SQLAlchemy is only told of a statement that was sent on it."""


class _Ahead(NamedTuple):
    """What has become of a statement that was sent ahead of SQLAlchemy."""

    error: BaseException | None


@contextmanager
def sent_ahead(connection: Connection, error: BaseException | None = None) -> Generator[None]:
    """Let SQLAlchemy begin or end a savepoint whose statement was sent already; it may have failed."""
    vars(connection)[_AHEAD] = _Ahead(error)
    try:
        yield
    finally:
        vars(connection).pop(_AHEAD, None)


def _is_answered(connection: Connection) -> bool:
    """Say whether the statement was sent ahead, and the database has answered; raise what it failed with."""
    ahead: _Ahead | None = vars(connection).pop(_AHEAD, None)
    if ahead is not None and ahead.error is not None:
        raise ahead.error
    return ahead is not None


class ToldOfEnds(Protocol):
    """What a connection was taken for, which hears of its ends, and may refuse them."""

    def committed_by(self, send: Callable[[], object]) -> None:
        """Send COMMIT, if the block is about to end."""

    def released_by(self, send: Callable[[], object], name: str) -> None:
        """Send RELEASE, if the block is about to end, or the savepoint is none of a block."""

    def gone_back_by(self, send: Callable[[], object], name: str) -> None:
        """Send ROLLBACK TO, if the block is about to end, or the savepoint is none of a block."""

    def rolled_back_by(self, send: Callable[[], object]) -> None:
        """Send ROLLBACK, if the block is about to end."""

    def refuse_by_hand(self, verb: str) -> None:
        """Refuse an end that no block has asked for."""


def tell_ends(engine: Engine, by_hand: Callable[[], None]) -> None:
    """Let check-outs know when COMMIT is sent and answered, and refuse ends that no block has asked for.

    SQLAlchemy tells that it is about to commit, and not that it has. A dialect is what all its ways to an
    end have in common.
    """
    vars(engine.dialect).update(_ends_told(engine.dialect, by_hand))


def _ends_told(dialect: Any, by_hand: Callable[[], None]) -> dict[str, Any]:  # noqa: ANN401, C901  # five methods of any dialect
    """Return the methods of a dialect that end something, with the check-out told before and after."""
    commit, roll_back = dialect.do_commit, dialect.do_rollback
    mark, release = dialect.do_savepoint, dialect.do_release_savepoint
    back_to = dialect.do_rollback_to_savepoint

    def do_commit(connection: Any) -> None:  # noqa: ANN401  # of the pool
        checkout = _checkout_of(connection)
        if checkout is None:
            commit(connection)
            by_hand()
        else:
            checkout.committed_by(partial(commit, connection))

    def do_rollback(connection: Any) -> None:  # noqa: ANN401  # of the pool
        checkout = _checkout_of(connection)
        if checkout is None:
            roll_back(connection)
        else:
            checkout.rolled_back_by(partial(roll_back, connection))

    def do_savepoint(connection: Connection, name: str) -> None:
        if not _is_answered(connection):
            mark(connection, name)

    def do_release_savepoint(connection: Connection, name: str) -> None:
        send = _nothing if _is_answered(connection) else partial(release, connection, name)
        checkout = _checkout_of(connection)
        if checkout is None:
            send()
        else:
            checkout.released_by(send, name)

    def do_rollback_to_savepoint(connection: Connection, name: str) -> None:
        send = _nothing if _is_answered(connection) else partial(back_to, connection, name)
        checkout = _checkout_of(connection)
        if checkout is None:
            send()
        else:
            checkout.gone_back_by(send, name)

    return {
        "do_commit": do_commit,
        "do_rollback": do_rollback,
        "do_savepoint": do_savepoint,
        "do_release_savepoint": do_release_savepoint,
        "do_rollback_to_savepoint": do_rollback_to_savepoint,
    }


def _nothing() -> None:
    """The database has answered already."""


def _checkout_of(connection: Any) -> ToldOfEnds | None:  # noqa: ANN401  # of the pool
    """Return what a connection was taken for; None where SQLAlchemy itself tries one out."""
    try:
        found: ToldOfEnds | None = connection.info.get(CHECKOUT)
    except (AttributeError, NotImplementedError):
        return None
    return found
