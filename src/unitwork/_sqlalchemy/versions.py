"""This module holds all that differs between SQLAlchemy 2.0 and 2.1."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy
from sqlalchemy import JSON, Join, Select, SelectBase, select
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.pool.base import _ConnectionFairy  # pyright: ignore[reportPrivateUsage]
from sqlalchemy.sql import visitors

from unitwork._sqlalchemy.dialects import postgresql
from unitwork._sqlalchemy.private import fail_as_adapted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import ClauseElement, Connection, Result
    from sqlalchemy.ext.asyncio import AsyncResult
    from sqlalchemy.orm import LoaderCriteriaOption, Mapper, Session
    from sqlalchemy.pool import PoolProxiedConnection
    from sqlalchemy.types import TypeEngine

S = TypeVar("S", bound=Select[Any])

_IS_2_0 = sqlalchemy.__version__.startswith("2.0.")

SET_BY_ASYNC_SESSION = (
    "sync_session",
    "_proxied",
    *(("bind",) if _IS_2_0 else ("_async_bind", "_async_binds")),
)
"""The attributes that `AsyncSession.__init__` sets when it is given an engine."""
WRITES_OF_SESSION = tuple(
    name for name in ("delete", "delete_all", "merge", "merge_all") if hasattr(AsyncSession, name)
)
"""The methods of a session that change or remove what they find; 2.0 has two of them."""


def entity_result(name: str, entity: Any) -> SimpleResultMetaData:  # noqa: ANN401  # class or alias
    """Return the description of a result whose only column is an entity, each of which counts once."""
    once: dict[str, Any] = (
        {"_unique_filters": [id]} if _IS_2_0 else {"_create_unique_filters": lambda _result: [id]}
    )
    return SimpleResultMetaData([name], [(entity,)], **once)


def rows_touched(result: Result[Any]) -> int:
    """Return how many rows a statement has touched; less than 0 where nobody says so.

    SQLAlchemy does not read what asyncpg says of a MERGE.
    """
    count: int = getattr(result, "rowcount", -1)
    context: Any = getattr(result, "context", None)
    adapted = getattr(getattr(context, "cursor", None), "_adapt_connection", None)
    prepared = getattr(adapted, "_prepared_statement_cache", None) if count < 0 else None
    found = prepared.get(context.statement) if prepared is not None else None
    said: str = found[0].get_statusmsg() if found is not None else ""
    number = said.rpartition(" ")[2]
    return int(number) if number.isdecimal() else count


async def commit_on_driver(adapted: Any) -> None:  # noqa: ANN401  # SQLAlchemy's for this driver
    """Send the COMMIT of what SQLAlchemy has begun, which has nothing to send then (asyncpg).

    Raises:
        Exception: What SQLAlchemy makes of an error of the driver.
    """
    begun = adapted._transaction  # noqa: SLF001  # the driver's
    if begun is None:
        return
    try:
        if _IS_2_0:
            await adapted._commit_and_discard()  # noqa: SLF001  # as it does itself
        else:
            await adapted._call_and_discard(begun.commit)  # noqa: SLF001  # as it does itself
    except Exception as error:  # noqa: BLE001  # of this driver
        fail_as_adapted(adapted, error)


def part_source(result: AsyncResult[Any]) -> Any:  # noqa: ANN401  # of another class in each version
    """Return what the scalars and the mappings of a streamed result are made of: in 2.0 of the one inside."""
    return result._real_result if _IS_2_0 else result  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def select_distinct_on(statement: S, *parts: Any) -> S:  # expressions
    """Return the statement with a DISTINCT ON; 2.1 deprecates what 2.0 has for it."""
    return statement.distinct(*parts) if _IS_2_0 else statement.ext(postgresql.distinct_on(*parts))


def parts_before_columns(statement: Select[Any]) -> ClauseElement | None:
    """Return what extensions have put between SELECT and its columns; 2.0 has no extensions."""
    return None if _IS_2_0 else statement._pre_columns_clause  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def flush_before(session: Session, statement: Any) -> None:  # noqa: ANN401  # what a session can execute
    """Flush as a session of 2.1 does before any statement; those of 2.0 do so before ORM statements alone."""
    if _IS_2_0 and not _is_of_orm(statement):
        session._autoflush()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


async def flushed_before(session: AsyncSession, statement: Any) -> None:  # noqa: ANN401  # as above
    """The same in an asynchronous session."""
    if _IS_2_0 and not _is_of_orm(statement):
        await session.run_sync(flush_before, statement)


def with_criteria(statement: Any, criteria: LoaderCriteriaOption) -> Any:  # noqa: ANN401  # any SELECT
    """Add `with_loader_criteria` to a statement; 2.0 overlooks entities that only a WHERE names."""
    if not _IS_2_0:
        return statement.options(criteria)
    mappers = frozenset(criteria._all_mappers())  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    parts: Any = visitors.iterate(statement)
    if any(isinstance(part, Select) and _only_in_where(part, mappers) for part in parts):

        def name_in_from(part: Any) -> None:  # noqa: ANN401  # a Select, inside
            if entities := _only_in_where(part, mappers):
                named: Any = select().select_from(*entities)
                # Of two that are equal the first counts.
                part._from_obj = (*named._from_obj, *part._from_obj)  # noqa: SLF001
                part._set_propagate_attrs(named._propagate_attrs)  # noqa: SLF001

        statement = visitors.cloned_traverse(statement, {}, {"select": name_in_from})
    changed = statement.options(criteria)
    if not _is_of_orm(changed):
        inside: Any = visitors.iterate(changed)
        of_orm = (part._propagate_attrs for part in inside if _is_of_orm(part))  # noqa: SLF001
        changed._set_propagate_attrs(next(of_orm, {}))  # noqa: SLF001
    return changed


def _only_in_where(part: Select[Any], mappers: frozenset[Mapper[Any]]) -> list[Any]:
    """Return the entities of these mappers that a SELECT without joins names in its WHERE alone."""
    froms = part._from_obj  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    if part._setup_joins or any(isinstance(each, Join) for each in froms):  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return []
    selected = {_entity_of(each) for each in (*part._raw_columns, *froms)}  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    conditions = part._where_criteria  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    named = dict.fromkeys(_entity_of(each) for each in _outside_of_subqueries(conditions))
    return [each.entity for each in named if each not in {None, *selected} and each.mapper in mappers]


def _outside_of_subqueries(parts: Iterable[Any]) -> Iterator[Any]:
    for part in parts:
        if not isinstance(part, SelectBase):
            yield part
            yield from _outside_of_subqueries(part.get_children())


def _entity_of(part: Any) -> Any:  # noqa: ANN401  # a mapper, or what an alias is known by
    return part._annotations.get("parententity")  # noqa: SLF001


RELATED_ONCE = _IS_2_0
"""Of equal rows that tell what belongs to an entity `selectinload` takes one; 2.1 takes them all."""


def class_said(kind: TypeEngine[Any]) -> type | None:
    """Return the class of its values that a type says; 2.0 says `dict` for JSON, which may hold a list."""
    if isinstance(kind, JSON):
        return None
    try:
        return kind.python_type
    except NotImplementedError:
        return None


def _is_of_orm(statement: Any) -> bool:  # noqa: ANN401  # any statement
    attributes = getattr(statement, "_propagate_attrs", None) or {}
    return attributes.get("compile_state_plugin") == "orm"


class _Returned(_ConnectionFairy):
    """A connection whose place is back in the pool also where somebody is stopped while it is reset."""

    __slots__ = ()

    def _checkin(self, transaction_was_reset: bool = False) -> None:  # noqa: FBT001, FBT002  # as SQLAlchemy's
        record = self._connection_record
        try:
            super()._checkin(transaction_was_reset)
        except BaseException as error:
            if record is not None and record.in_use:
                self._connection_record = None
                record.invalidate(error, soft=True)  # if that was what did not come to its end
                record.checkin()
            raise


def returned_always(connection: PoolProxiedConnection) -> PoolProxiedConnection:
    """Let a connection go back to its pool whatever stops its reset; in 2.1 it does by itself."""
    if _IS_2_0:
        connection.__class__ = _Returned
    return connection


def let_go_of_cursor(stopped: BaseException) -> None:
    """Forget the cursor of a statement that was stopped (SQLite): in 2.0 its traceback alone still holds it.

    Rows that are left in it keep the database locked.
    """
    if _IS_2_0:
        traceback.clear_frames(stopped.__traceback__)


def translate_client_errors(dialect: Any) -> None:  # noqa: ANN401  # of asyncpg
    """Let what asyncpg itself refuses to do be an error of the database; the first ones of 2.0 pass it on."""
    module = dialect.dbapi
    known = module._asyncpg_error_translate  # noqa: SLF001
    known.setdefault(module.asyncpg.exceptions.InternalClientError, module.InternalError)


def keep_first_error(dialect: Any) -> None:  # noqa: ANN401  # of any database
    """Let the error be heard that the first questions to a database end with, not that of what follows.

    Where somebody was stopped in the middle of them, 2.0 rolls back next, on a connection that is broken.
    """
    if _IS_2_0:
        initialize = dialect.initialize

        def initialized(connection: Connection) -> None:
            try:
                initialize(connection)
            except BaseException as error:
                if not connection.closed:
                    connection.invalidate(error)
                raise

        dialect.initialize = initialized
