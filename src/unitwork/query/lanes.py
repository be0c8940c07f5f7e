"""This module tells which lane a query takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select

from unitwork._logic.shape import Item, Rows, Shape
from unitwork._runtime.access.repository_access import RepositoryAccess
from unitwork._runtime.lanes.calls import StatementCall
from unitwork._runtime.lanes.results import ResultReader
from unitwork.errors import OptionError
from unitwork.query.declaration import QUERY

if TYPE_CHECKING:
    from unitwork._logic.routing import LaneChoice
    from unitwork._runtime.source import Source
    from unitwork.query.declared import DeclaredQuery


def lane_of(source: Source, what: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> LaneChoice:  # noqa: ANN401  # a query or statement
    """Return the lane that a statement, or a call of a declared query, takes here and now.

    Raises:
        OptionError: It is neither.
    """
    access = RepositoryAccess(source, None)
    if isinstance(what, Select):
        described = what.column_descriptions
        entity = len(described) == 1 and described[0].get("entity") is described[0]["expr"]
        shape = Shape(Rows.MANY, Item.ENTITY if entity else Item.SCALAR)
        return access.explain(ResultReader("this statement", shape), StatementCall(what))
    query: DeclaredQuery | None = getattr(what, QUERY, None)
    if query is None:
        raise OptionError("query", what, ["a declared query of a repository", "a `select(...)`"])
    asked = query.asked(getattr(what, "__self__", None), query.signature.bind(arguments, keywords))
    return access.explain(query.reader, asked)
