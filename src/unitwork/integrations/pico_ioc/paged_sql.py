"""This module pages whole SQL statements, which say their order themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from typing_extensions import override

from unitwork._logic.paging import Page, PageRequest
from unitwork._logic.shape import Item, Rows
from unitwork._runtime.lanes.calls import StatementCall
from unitwork._runtime.lanes.results import ResultReader
from unitwork.errors import OptionError
from unitwork.query.declared import DeclaredQuery, page_parameter
from unitwork.query.forms import FullSQL, promised
from unitwork.query.text import DeclaredText, mapper_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitwork._logic.shape import Shape
    from unitwork._runtime.access.repository_access import RepositoryAccess
    from unitwork.query.signature import QuerySignature

_LIMIT, _OFFSET = "unitwork_limit", "unitwork_offset"


class PagedSQL:
    """`@query.sql("SELECT …", paged=True)`: a page of any rows, in the order that the text says."""

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def query(self, signature: QuerySignature, entity: type | None) -> DeclaredQuery:
        """Limit the text, and count its rows."""
        shape = promised(signature, entity)
        if shape.rows is not Rows.PAGE:
            raise signature.wrong("`paged=True` promises a page", "return `Page[Model]` or `Page[dict]`.")
        request = page_parameter(signature)
        text = DeclaredText(signature, self.sql, besides=frozenset({request}))
        if shape.item is Item.ENTITY and not text.is_ordered:
            return FullSQL(self.sql).query(signature, entity)
        mapper = mapper_of(entity)
        clause: Any = text.clause(mapper, after=f" LIMIT :{_LIMIT} OFFSET :{_OFFSET}")
        if shape.item is Item.ENTITY:
            clause = select(shape.kind).from_statement(clause)
        counting = text.clause(mapper, before="SELECT count(*) FROM (", after=") AS unitwork_rows")

        def ask(_owner: object, arguments: dict[str, Any]) -> StatementCall:
            return StatementCall(
                clause, {name: value for name, value in arguments.items() if name != request}
            )

        return _TextPage(signature, shape, ask, counting)


class _TextPage(DeclaredQuery):
    """A page of the rows of a text. Lives: as long as the class that declares it."""

    def __init__(
        self,
        signature: QuerySignature,
        shape: Shape,
        ask: Callable[[Any, dict[str, Any]], StatementCall],
        counting: object,
    ) -> None:
        super().__init__(signature, ResultReader(signature.name, shape, convert=True), ask)
        self._counting = counting

    @override
    async def page(self, access: RepositoryAccess, asked: StatementCall, request: PageRequest) -> Page[Any]:
        if request.sorts:
            allowed = ["no sort: write ORDER BY into the SQL, or declare the query with `expr`"]
            raise OptionError("sort field", request.sorts[0].field, allowed)
        values = dict(asked.parameters or {})
        size = request.size + (not request.count)
        limited = asked._replace(parameters={**values, _LIMIT: size, _OFFSET: request.offset})
        found: Any = await access.fetch(self.reader.with_rows(Rows.MANY), limited)
        content, total = found[: request.size], None
        if request.count:
            counted = asked._replace(statement=self._counting, parameters=values)
            total = await access.scalar(self.name, counted)
        more = len(found) > request.size if total is None else request.offset + request.size < total
        return Page(content, total, request.page, request.size, has_more=more)
