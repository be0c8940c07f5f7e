"""This module holds the Select of a repository: SQLAlchemy's own, with awaitable endings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import Select, delete, exists, select, update
from sqlalchemy import inspect as inspect_entity

from unitwork._logic.paging import CursorPage, CursorRequest, Page, PageRequest
from unitwork._logic.shape import Item, Rows, Shape
from unitwork._runtime.access.door import Door, Reading
from unitwork._runtime.lanes.asked import Asked
from unitwork.errors import OptionError
from unitwork.query.declared import DeclaredQuery
from unitwork.query.order import counted, refuse_unknown
from unitwork.query.signature import QuerySignature

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

M = TypeVar("M")


class FluentSelect(Select[M]):
    """A `Select` of one entity that can be awaited: `await users.where(User.active).all()`.

    Every method of `Select` works and keeps this type; it can be passed to `session.execute`.
    """

    inherit_cache = True

    _door: Door
    _entity: type[M]
    _name: str

    @classmethod
    def of(cls, door: Door, entity: type[M], name: str) -> FluentSelect[M]:
        """Select an entity; the endings run through this door."""
        statement = cls(entity)
        statement._door = door
        statement._entity = entity
        statement._name = name
        return statement

    @classmethod
    def adopt(cls, statement: Select[Any], fluent: FluentSelect[M]) -> FluentSelect[M]:
        """Give a plain `Select` the endings of a fluent one."""
        adopted = cls.of(fluent._door, fluent._entity, fluent._name)
        own = {name: value for name, value in vars(adopted).items() if name in cls.__annotations__}
        vars(adopted).clear()
        vars(adopted).update(vars(statement), **own)
        return adopted

    async def all(self) -> list[M]:
        """Return all entities. One SELECT."""
        return cast("list[M]", await self._fetch("all", self, Rows.MANY))

    async def first(self) -> M | None:
        """Return the first entity, by primary key if the statement has no order, or None. One SELECT."""
        return cast("M | None", await self._fetch("first", self._in_order().limit(1), Rows.MAYBE))

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
        return cast("int", await self._door.scalar(f"{self._name}.count", Asked(counted(self))))

    async def exists(self) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # an ending, where Select has a clause
        """Say whether there is any row. One SELECT."""
        asked = Asked(select(exists(self.order_by(None))))
        return bool(await self._door.scalar(f"{self._name}.exists", asked))

    async def page(self, request: PageRequest) -> Page[M]:
        """Return one page. One SELECT, and one that counts unless the request skips it.

        Raises:
            OptionError: A sort names no mapped attribute.
        """
        return await self._query("page", Rows.PAGE).page(self._door, Asked(self), request)

    async def cursor_page(self, request: CursorRequest) -> CursorPage[M]:
        """Return the page after or before a cursor. One SELECT.

        Raises:
            OptionError: A sort names no mapped attribute.
            CursorError: The cursor was changed, or belongs to another query or order.
        """
        query = self._query(f"cursor_page where {self.whereclause}", Rows.CURSOR_PAGE)
        return await query.cursor_page(self._door, Asked(self), request)

    def stream(self, batch: int = 500) -> AsyncGenerator[M, None]:
        """Yield entity by entity: `async for user in users.where(...).stream():`.

        Args:
            batch: Rows that are fetched at a time, from 1.

        Database:
            One SELECT with a cursor on the server: in the open transaction, or in a read-only one
            of its own, which ends with the loop. Memory does not grow with the rows.
        """
        if batch < 1:
            raise OptionError("batch", batch, ["a number from 1"])
        reading = Reading(f"{self._name}.stream", self._shape(Rows.STREAM))
        return self._door.stream(reading, Asked(self), batch)

    async def delete(self) -> int:
        """Delete the rows, and return how many. One DELETE; entities in the session know of it."""
        self._refuse_more_than_where("delete")
        statement = delete(self._entity)
        if self.whereclause is not None:
            statement = statement.where(self.whereclause)
        return await self._door.change(f"{self._name}.delete", Asked(statement, writes=True))

    async def update(self, **values: Any) -> int:
        """Set attributes of the rows, and return how many. One UPDATE; entities in the session know of it.

        Without values it changes nothing and returns 0; nothing is sent, and `onupdate` sets nothing.

        Raises:
            OptionError: A name is no mapped attribute.
        """
        self._refuse_more_than_where("update")
        refuse_unknown(values, inspect_entity(self._entity).column_attrs.keys())
        if not values:
            return 0
        statement = update(self._entity).values({getattr(self._entity, k): v for k, v in values.items()})
        if self.whereclause is not None:
            statement = statement.where(self.whereclause)
        return await self._door.change(f"{self._name}.update", Asked(statement, writes=True))

    def _refuse_more_than_where(self, verb: str) -> None:
        parts = (self._limit_clause, self._offset_clause)
        if any(part is not None for part in parts) or any(
            (self._setup_joins, self._from_obj, self._group_by_clauses, self._distinct)
        ):
            raise OptionError(verb, "a limit, offset, join, GROUP BY or DISTINCT", ["conditions alone"])

    def _shape(self, rows: Rows) -> Shape:
        return Shape(rows, Item.ENTITY, self._entity)

    async def _fetch(self, method: str, statement: Select[Any], rows: Rows) -> Any:  # noqa: ANN401  # as the rows say
        return await self._door.fetch(Reading(f"{self._name}.{method}", self._shape(rows)), Asked(statement))

    def _in_order(self) -> Select[Any]:
        return self if self._order_by_clauses else self.order_by(*inspect_entity(self._entity).primary_key)

    def _query(self, method: str, rows: Rows) -> DeclaredQuery:
        signature = QuerySignature(f"{self._name}.{method}", {}, None, lambda _arguments, _keywords: {})
        return DeclaredQuery(signature, self._shape(rows), lambda _owner, _arguments: Asked(self))
