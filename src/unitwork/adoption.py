"""This module holds the block in which a session of the program's own is the ambient one."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker

from unitwork._runtime.blocks.adoption import Adoption
from unitwork._runtime.blocks.generators import caller_in_generator
from unitwork._runtime.source import Source
from unitwork.errors import OptionError, TransactionRefusedError

__all__ = ["AdoptedBlock"]

SessionT = TypeVar("SessionT", bound=AsyncSession)


class AdoptedBlock(Generic[SessionT]):
    """What `db.adopt()` returns: inside it the session is the ambient one. Lives: one `async with`.

    Examples:
        >>> async with db.session_factory() as session, db.adopt(session) as same:
        ...     db.session is session is same
        True
    """

    __slots__ = ("_adoption", "_name", "_session", "_source")

    def __init__(self, source: Source, session: SessionT | async_scoped_session[SessionT], name: str) -> None:
        self._source = source
        self._session = session
        self._name = name
        self._adoption: Adoption | None = None

    def __repr__(self) -> str:
        status = "new" if self._adoption is None else "ended" if self._adoption.left else "open"
        return f"<AdoptedBlock of {self._name} on database {self._source.name!r}: {status}>"

    async def __aenter__(self) -> SessionT:
        if self._adoption is not None and not self._adoption.left:
            raise TransactionRefusedError(
                self._source.name,
                f"{self._name} is adopted already: one block object cannot be entered twice at a time.",
                "call `db.adopt(session)` for each `async with`.",
            )
        session = session_from(self._session)
        adoption = Adoption(self._source, self._name, session)
        await adoption.enter(caller_in_generator())
        self._adoption = adoption
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._adoption is not None:
            await self._adoption.leave(error)


def session_from(given: SessionT | async_scoped_session[SessionT]) -> SessionT:
    """Return the session that is given, or the one that a scoped session has for the code that runs.

    Raises:
        OptionError: It is something else, such as a factory.
    """
    written: Any = given
    session = written() if isinstance(written, async_scoped_session) else written
    if not isinstance(session, AsyncSession):
        is_factory = isinstance(session, async_sessionmaker)
        allowed = "a session of it: `async with factory() as session:`" if is_factory else "an AsyncSession"
        raise OptionError("session", type(session).__name__, [allowed])
    return cast("SessionT", session)
