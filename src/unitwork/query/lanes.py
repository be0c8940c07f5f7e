"""This module tells which lane a query takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select

from unitwork._logic.shape import Item, Rows, Shape
from unitwork._runtime.access.door import Reading
from unitwork._runtime.lanes.asked import Asked
from unitwork.errors import OptionError
from unitwork.query.declared import QUERY, DeclaredQuery

if TYPE_CHECKING:
    from unitwork._logic.routing import LaneChoice
    from unitwork._runtime.source import Source


def lane_of(source: Source, what: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> LaneChoice:  # noqa: ANN401  # a query or statement
    """Return the lane that a statement, or a call of a declared query, takes here and now.

    Raises:
        OptionError: It is neither.
    """
    if isinstance(what, Select):
        described = what.column_descriptions
        entity = len(described) == 1 and described[0].get("entity") is described[0]["expr"]
        shape = Shape(Rows.MANY, Item.ENTITY if entity else Item.SCALAR)
        return source.express.explain(Reading("this statement", shape), Asked(what))
    query: DeclaredQuery | None = getattr(what, QUERY, None)
    if query is None:
        raise OptionError("query", what, ["a declared query of a repository", "a `select(...)`"])
    asked = query.asked(getattr(what, "__self__", None), query.signature.bind(arguments, keywords))
    return source.express.explain(query.reading, asked)
