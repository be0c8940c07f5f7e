"""This module holds the two statements of a page: its rows, and how many there are in all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, bindparam
from sqlalchemy.util import LRUCache

from unitwork.query.clauses import counted, refuse_limits
from unitwork.query.order import in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Select

    from unitwork._logic.paging import PageRequest, Sort
    from unitwork._runtime.lanes.calls import StatementCall

_KNOWN_ORDERS = 50
_LIMIT, _OFFSET = "unitwork_limit", "unitwork_offset"


class PagedStatement:
    """A statement in one order, whose part and whose number of rows can be asked for.

    The last `added` columns of its rows are there for the order alone.

    Raises:
        OptionError: A sort names no mapped attribute, or the statement has limits of its own.
    """

    def __init__(self, statement: Select[Any], target: Any, sorts: Sequence[Sort]) -> None:  # noqa: ANN401  # class or alias
        refuse_limits("page", statement)
        ordered, self.added = in_order(statement, target, sorts)
        self._part = ordered.limit(bindparam(_LIMIT, type_=Integer)).offset(bindparam(_OFFSET, type_=Integer))
        self._number = counted(statement)

    def part(self, asked: StatementCall, size: int, offset: int) -> StatementCall:
        """Return what asks for some of the rows."""
        values = {**(asked.parameters or {}), _LIMIT: size, _OFFSET: offset}
        return asked._replace(statement=self._part, parameters=values)

    def number(self, asked: StatementCall) -> StatementCall:
        """Return what asks for the number of all rows."""
        return asked._replace(statement=self._number)


class Pages:
    """The paged statements of one query. Lives: as long as the query."""

    def __init__(self, target: Any) -> None:  # noqa: ANN401  # class or alias
        self._target = target
        self._known: LRUCache[tuple[Sort, ...], PagedStatement] = LRUCache(_KNOWN_ORDERS)

    def of(self, asked: StatementCall, request: PageRequest) -> PagedStatement:
        """Return the statement in the order of a request; made once, if it is the same in each call.

        Raises:
            OptionError: A sort names no mapped attribute, or the statement has limits of its own.
        """
        order = tuple(request.sorts)
        known = self._known.get(order) if asked.fixed else None
        if known is None:
            known = PagedStatement(asked.statement, self._target, order)
            if asked.fixed:
                self._known[order] = known
        return known
