"""This module selects from an entity what a shape asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Table, func, select
from sqlalchemy import inspect as inspect_entity

from unitwork._logic.records import fields_of, required_fields_of
from unitwork._logic.shape import Item
from unitwork._logic.values.columns import column_values

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import Mapper

    from unitwork._logic.shape import Shape
    from unitwork.query.signature import QuerySignature


def select_for(signature: QuerySignature, shape: Shape, entity: type) -> Select[Any]:
    """Select what the shape asks for from an entity: itself, a count, or the columns of a record.

    Raises:
        QueryDeclarationError: A field of the record is no attribute of the entity.
    """
    if shape.item is Item.ENTITY:
        return select(entity)
    if shape.item is Item.SCALAR and shape.kind is int:
        return select(func.count()).select_from(entity)
    if shape.item is Item.SCALAR:
        raise signature.wrong(
            f"a condition on {entity.__name__} cannot return {getattr(shape.kind, '__name__', shape.kind)}",
            f"return {entity.__name__}, int (a count), bool (exists) or a record; or write `@query.sql`.",
        )
    return cast("Select[Any]", select(*columns_for(signature, shape, entity)))


def columns_for(signature: QuerySignature, shape: Shape, entity: Any) -> list[ColumnElement[Any]]:  # noqa: ANN401  # class or alias
    """Return the columns of an entity that fill a record, or all for a row.

    Raises:
        QueryDeclarationError: A field of the record is no attribute of the entity.
    """
    mapper: Mapper[Any] = inspect_entity(entity).mapper
    known = {attribute.key: getattr(entity, attribute.key) for attribute in mapper.column_attrs}
    if shape.item is not Item.RECORD:
        return list(known.values())
    for name in required_fields_of(shape.kind):
        if name not in known:
            raise signature.wrong(
                f"{shape.kind.__name__}.{name} is no attribute of {mapper.class_.__name__}",
                f"use one of: {', '.join(known)}; or write `@query.sql`.",
            )
    return [known[name].label(name) for name in fields_of(shape.kind) or () if name in known]


def never_none(entity: type) -> frozenset[str]:
    """Return the attributes for which no row of an entity has None, if that is known from its model.

    Rows of tables alone keep to it: what is mapped to a join, or to rows of several classes at once, may have
    NULL where the tables have none.
    """
    mapper: Mapper[Any] = inspect_entity(entity)
    tables = all(isinstance(each.local_table, Table) for each in mapper.iterate_to_root())
    if not tables or mapper.with_polymorphic:
        return frozenset()
    return frozenset(
        attribute.key for attribute in mapper.column_attrs if column_values(attribute.columns[0]).never_none
    )
