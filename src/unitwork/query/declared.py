"""This module runs declared queries."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from unitwork._logic.paging import CursorCodec, CursorPage, CursorRequest, Page, PageRequest
from unitwork._logic.shape import Rows
from unitwork._runtime.lanes.calls import StatementCall
from unitwork.query.order import cursor_at, entity_in, order_of, refuse_walk, sorted_by
from unitwork.query.pages import Pages
from unitwork.query.signature import QuerySignature

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.types import TypeEngine

    from unitwork._logic.shape import Shape
    from unitwork._runtime.access.repository_access import RepositoryAccess
    from unitwork._runtime.lanes.results import ResultReader

_BATCH_ROWS = 500


class HasAccess(Protocol):
    """An object whose declared queries can run."""

    @property
    def database_access(self) -> RepositoryAccess:
        """How it reaches its database."""
        ...


class DeclaredQuery:
    """One declared query. Lives: as long as the class that declares it.

    Args:
        signature: Its name and parameters.
        reader: Makes of its rows what it promises.
        ask: Gives the statement for the object that it is called on, and the arguments of a call.
        target: The entity, or an alias of it, that sorts may name the attributes of; None if the
            statement of each call tells.
    """

    def __init__(
        self,
        signature: QuerySignature,
        reader: ResultReader,
        ask: Callable[[Any, dict[str, Any]], StatementCall],
        *,
        target: Any = None,  # noqa: ANN401  # class or alias
    ) -> None:
        self.signature = signature
        self.shape: Shape = reader.shape
        self.reader = reader
        self.counts = False
        """The number of rows that a DML statement touches is what it returns."""
        self.column_types: Mapping[str, TypeEngine[Any]] = {}
        """What parameters are compared with, if their names say it and not the statement."""
        self.guessed_types: Collection[str] = ()
        """The parameters whose types in the statement are guessed from their annotations."""
        self._ask = ask
        self._many = self.reader.with_rows(Rows.MANY)
        self._pages = Pages(target)
        self._target = target
        self._request = page_parameter(signature)
        self._names = tuple(name for name in signature.parameters if name != self._request)

    @property
    def name(self) -> str:
        """Module, class and method."""
        return self.signature.name

    @property
    def converts(self) -> bool:
        """Whether the values of its rows become what the annotations say, in whatever type they come."""
        return self.reader.converts

    @property
    def streams(self) -> bool:
        """Whether its rows are yielded one by one."""
        return self.shape.rows is Rows.STREAM

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The annotations of its parameters."""
        return self.signature.parameters

    def asked(self, owner: object, arguments: dict[str, Any]) -> StatementCall:
        """Return the statement of one call."""
        asked = self._ask(owner, arguments)
        return asked if asked.parameters is not None or not self._names else asked._replace(names=self._names)

    async def run(self, owner: HasAccess, arguments: dict[str, Any]) -> object:
        """Ask the database, and return what the shape promises."""
        if self._request:
            self._check_request(arguments[self._request])
        asked = self.asked(owner, arguments)
        rows = self.shape.rows
        if rows is Rows.PAGE:
            return await self.page(owner.database_access, asked, arguments[self._request])
        if rows is Rows.CURSOR_PAGE:
            return await self.cursor_page(owner.database_access, asked, arguments[self._request])
        if self.counts:
            count = await owner.database_access.change(self.name, asked)
            return count > 0 if self.shape.kind is bool else count
        if rows is Rows.NONE:  # such as LOCK and SET, which answer with no rows at all
            await owner.database_access.change(self.name, asked)
            return None
        return await owner.database_access.fetch(self.reader, asked)

    def _check_request(self, request: object) -> None:
        wanted = self.signature.parameters[self._request]
        if not isinstance(request, wanted):
            raise TypeError(
                f"Query {self.name} needs a {wanted.__name__} as {self._request!r}, "
                f"not a {type(request).__name__}.\n  Fix: pass `{self._request}={wanted.__name__}(...)`."
            )

    def stream(self, owner: HasAccess, arguments: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """Ask the database, and yield item by item."""
        return owner.database_access.stream(self.reader, self.asked(owner, arguments), _BATCH_ROWS)

    async def page(self, access: RepositoryAccess, asked: StatementCall, request: PageRequest) -> Page[Any]:
        """Return one page, and count all rows if that is asked for and the page does not tell."""
        statement = self._pages.of(asked, request)
        size, offset = request.size, request.offset
        limit = size if request.count else size + 1
        part = statement.part(asked, limit, offset)
        found: Any
        if statement.added:
            found, _order = await access.edged(self._many, part, statement.added)
        else:
            found = await access.fetch(self._many, part)
        content, total = found[:size], None
        if request.count and (len(content) == size or (offset and not content)):
            total = await access.scalar(self.name, statement.number(asked))
        elif request.count:
            total = offset + len(content)
        more = len(found) > size if total is None else offset + size < total
        return Page(content=content, total_elements=total, page=request.page, size=size, has_more=more)

    async def cursor_page(
        self, access: RepositoryAccess, asked: StatementCall, request: CursorRequest
    ) -> CursorPage[Any]:
        """Return the page after or before a cursor."""
        entity = self._target or entity_in(asked.statement)
        refuse_walk(asked.statement, entity)
        order = order_of(entity, request.sorts)
        codec = CursorCodec(access.cursor_key(), self.name, order.sorts)
        position = codec.read(request.cursor) if request.cursor is not None else None
        forward = position is None or position.forward
        statement: Select[Any] = asked.statement.order_by(None)
        if position is not None:
            statement = statement.where(order.beyond(position))
        statement, added = sorted_by(statement, order.clauses(forward=forward))
        statement = statement.add_columns(*order.columns(access.dialect())).limit(request.size + 1)
        items, edges = await access.edged(
            self.reader, asked._replace(statement=statement, fixed=False), added + len(order.sorts)
        )
        edges = [edge[added:] for edge in edges]
        more = len(items) > request.size
        items, edges = items[: request.size], edges[: request.size]
        if not forward:
            items, edges = items[::-1], edges[::-1]
        after, before = (more, position is not None) if forward else (True, more)
        return CursorPage(
            content=list(items),
            next_cursor=cursor_at(codec, order, edges[-1:] if after else (), forward=True),
            previous_cursor=cursor_at(codec, order, edges[:1] if before else (), forward=False),
            size=request.size,
        )


def page_parameter(signature: QuerySignature) -> str:
    """Return the name of the parameter that asks for a page; empty if there is none."""
    for name, annotation in signature.parameters.items():
        if annotation in (PageRequest, CursorRequest):
            return name
    return ""
