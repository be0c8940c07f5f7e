"""This module holds the Select of a repository: SQLAlchemy's own, with awaitable endings."""

from __future__ import annotations

import sys
import warnings
from opcode import opmap
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import delete, select, update
from sqlalchemy import inspect as inspect_entity

from unitwork._logic.paging import CursorPage, CursorRequest, Page, PageRequest
from unitwork._logic.remembered import known_of_mapper
from unitwork._logic.shape import Item, Rows, Shape
from unitwork._runtime.access.repository_access import RepositoryAccess
from unitwork._runtime.lanes.calls import StatementCall, UnwrittenCall
from unitwork._runtime.lanes.mappings import MAPPINGS
from unitwork._runtime.lanes.results import ResultReader
from unitwork._sqlalchemy.shapes import WatchedSelect, shape_of, shape_of_change
from unitwork.errors import OptionError
from unitwork.query.clauses import changing, counted, found_any, limits_itself, only_entity
from unitwork.query.declared import DeclaredQuery
from unitwork.query.order import in_order, refuse_unknown
from unitwork.query.signature import QuerySignature

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping
    from types import FrameType

    from sqlalchemy import Delete, Select, Update

    from unitwork._runtime.lanes.calls import Call

M = TypeVar("M")

_PARTS = "unitwork_parts_of_select"
_DROPS_VALUE = opmap["POP_TOP"]


class FluentSelect(WatchedSelect[M]):
    """A `Select` of one entity that can be awaited: `await users.where(User.active).all()`.

    Every method of `Select` works and keeps this type; it can be passed to `session.execute`. Awaited
    without an ending it returns all entities, as `all()` does. A statement that makes one and drops
    it, such as `users.where(User.active)` alone, asks nothing: a RuntimeWarning says so.
    """

    inherit_cache = True
    known_parts = WatchedSelect.known_parts | {"_access", "_entity", "_name"}

    _access: RepositoryAccess
    _entity: type[M]
    _name: str

    @classmethod
    def of(cls, access: RepositoryAccess, entity: type[M], name: str) -> FluentSelect[M]:
        """Select an entity; the endings run through this access to a database."""
        statement = cls.__new__(cls)
        parts = _parts_of(entity)
        vars(statement).update(parts, _access=access, _entity=entity, _name=name)
        return statement

    @classmethod
    def adopt(cls, statement: Select[Any], fluent: FluentSelect[M]) -> FluentSelect[M]:
        """Give a plain `Select` the endings of a fluent one."""
        adopted = cls.of(fluent._access, fluent._entity, fluent._name)
        own = {name: value for name, value in vars(adopted).items() if name in cls.__annotations__}
        vars(adopted).clear()
        vars(adopted).update(vars(statement), **own)
        return adopted

    def __await__(self) -> Generator[Any, None, list[M]]:
        return self.all().__await__()

    def __del__(self) -> None:
        if not self.written and _is_dropped_by(sys._getframe().f_back):  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            warnings.warn(
                f"A query of {self._name} was made and never awaited: nothing was asked.\n"
                "  Fix: end it with `await ....all()`, or another ending, or pass it to a session.",
                RuntimeWarning,
                stacklevel=2,
            )

    async def all(self) -> list[M]:
        """Return all entities. One SELECT."""
        return cast("list[M]", await self._fetch("all", self, Rows.MANY))

    async def first(self) -> M | None:
        """Return the first entity, by primary key if the statement has no order, or None. One SELECT."""
        ordered = in_order(self).statement if not self._order_by_clauses else self
        if limits_itself(self):
            found: list[M] = await self._fetch("first", ordered, Rows.MANY)
            return found[0] if found else None
        return cast("M | None", await self._fetch("first", ordered.limit(1), Rows.MAYBE))

    async def one(self) -> M:
        """Return the only entity. One SELECT.

        Raises:
            NoRowError: There is none.
            TooManyRowsError: There are more.
        """
        return cast("M", await self._fetch("one", self, Rows.ONE))

    async def one_or_none(self) -> M | None:
        """Return the only entity, or None. One SELECT.

        Raises:
            TooManyRowsError: There are more than one.
        """
        return cast("M | None", await self._fetch("one_or_none", self, Rows.MAYBE))

    async def count(self) -> int:
        """Return how many rows there are. One SELECT."""
        return cast("int", await self._access.scalar(self._ended("count"), StatementCall(counted(self))))

    async def exists(self) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # an ending, where Select has a clause
        """Say whether there is any row. One SELECT."""
        return bool(await self._access.scalar(self._ended("exists"), StatementCall(found_any(self))))

    async def page(self, request: PageRequest) -> Page[M]:
        """Return one page. One SELECT, and one that counts unless the request skips it.

        Raises:
            OptionError: A sort names no mapped attribute.
        """
        return await self._query("page", Rows.PAGE).page(self._access, StatementCall(self), request)

    async def cursor_page(self, request: CursorRequest) -> CursorPage[M]:
        """Return the page after or before a cursor. One SELECT.

        Raises:
            OptionError: A sort names no mapped attribute.
            CursorError: The cursor was changed, or belongs to another query or order.
        """
        query = self._query(f"cursor_page where {self.whereclause}", Rows.CURSOR_PAGE)
        return await query.cursor_page(self._access, StatementCall(self), request)

    def stream(self, batch: int = 500) -> AsyncGenerator[M, None]:
        """Yield entity by entity: `async for user in users.where(...).stream():`.

        Args:
            batch: Rows that are fetched at a time, from 1.

        Database:
            One SELECT with a cursor on the server: in the open transaction, or in a read-only one
            of its own, which ends with the loop. Memory does not grow with the rows, unless the pool
            has no second connection for the loop's body: then all are fetched first.
        """
        self.written = True  # an ending has been asked for, and says itself what is wrong with it
        if batch < 1:
            raise OptionError("batch", batch, ["a number from 1"])
        reader = ResultReader(self._ended("stream"), self._shape(Rows.STREAM))
        return self._access.stream(reader, StatementCall(self), batch)

    async def delete(self) -> int:
        """Delete the rows, and return how many. One DELETE; entities in the session know of it.

        Raises:
            OptionError: The statement has more than conditions, such as a limit or a join; or a row of the
                entity is in several tables, of which one DELETE would leave a part.
        """
        name, entity = self._ended("delete"), self._entity
        if len(inspect_entity(entity).tables) > 1:
            allowed = ["`repository.delete(entity)` for each"]
            raise OptionError("delete", "an entity whose rows are in several tables", allowed)

        def write() -> Delete:
            return changing("delete", self, entity, delete(entity))

        return await self._access.change(name, self._changing("delete", {}, write))

    async def update(self, **values: Any) -> int:
        """Set attributes of the rows, and return how many. One UPDATE; entities in the session know of it.

        Without values it changes nothing and returns 0; nothing is sent, and `onupdate` sets nothing.

        Raises:
            OptionError: A name is no mapped attribute, or the statement has more than conditions, such as a
                limit or a join.
        """
        name, entity = self._ended("update"), self._entity
        refuse_unknown(values, inspect_entity(entity).column_attrs.keys())

        def write() -> Update:
            change = update(entity).values({getattr(entity, key): value for key, value in values.items()})
            return changing("update", self, entity, change)

        call = self._changing("update", values, write)
        return await self._access.change(name, call) if values else 0

    def _changing(self, verb: str, values: Mapping[str, Any], write: Callable[[], Any]) -> Call:
        """Return the call of what changes the rows: written at once only if it has no plain shape."""
        if only_entity(self) is self._entity:
            shape = shape_of_change(verb, self._entity, shape_of(self), values)
            if shape is not None:
                return UnwrittenCall(shape, write)
        return StatementCall(write(), writes=True)

    def _ended(self, ending: str) -> str:
        """Take note that an ending is awaited, and return what messages call it."""
        self.written = True
        return f"{self._name}.{ending}"

    def _shape(self, rows: Rows) -> Shape:
        return Shape(rows, Item.ENTITY, self._entity)

    async def _fetch(self, method: str, statement: Select[Any], rows: Rows) -> Any:  # noqa: ANN401  # as the rows say
        return await self._access.fetch(
            ResultReader(self._ended(method), self._shape(rows)), StatementCall(statement)
        )

    def _query(self, method: str, rows: Rows) -> DeclaredQuery:
        signature = QuerySignature(self._ended(method), {}, None, lambda _arguments, _keywords: {})
        reader = ResultReader(signature.name, self._shape(rows))
        return DeclaredQuery(signature, reader, lambda _owner, _arguments: StatementCall(self))


def _parts_of(entity: type[Any]) -> Mapping[str, Any]:
    """Return what a SELECT of an entity consists of: the same for all, until mappings change."""
    mapper = vars(entity).get("__mapper__")
    if mapper is None:
        return vars(select(entity))
    known: dict[int, Mapping[str, Any]] = known_of_mapper(mapper, _PARTS, lambda _mapper: {})
    parts = known.get(MAPPINGS.changes)
    if parts is None:
        known.clear()
        parts = known[MAPPINGS.changes] = vars(select(entity))
    return parts


def _is_dropped_by(frame: FrameType | None) -> bool:
    """Say whether a frame drops a value now that a statement of it has made: nobody has a name for that."""
    return frame is not None and frame.f_code.co_code[frame.f_lasti] == _DROPS_VALUE
