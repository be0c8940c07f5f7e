"""This module builds statements from SQL text: a WHERE condition, or a whole statement."""

from __future__ import annotations

import collections.abc
import datetime as dt
import decimal
import enum
import re
import types
import typing
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    Date,
    DateTime,
    Double,
    Enum,
    Numeric,
    String,
    Uuid,
    bindparam,
    func,
    select,
    text,
)
from sqlalchemy import inspect as inspect_entity
from sqlalchemy.types import TypeEngine

from unitwork._logic.records import fields_of, required_fields_of
from unitwork._logic.shape import Item

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select, TextClause
    from sqlalchemy.orm import Mapper

    from unitwork._logic.shape import Shape
    from unitwork.query.signature import QuerySignature

_QUOTED = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/", re.DOTALL
)
_INNERMOST = re.compile(r"\([^()]*\)")
_ORDER = re.compile(r"\b(ORDER\s+BY|LIMIT|OFFSET|FETCH\s+(FIRST|NEXT))\b", re.IGNORECASE)
_WEAK = re.compile(r"\bX?OR\b|\|\|", re.IGNORECASE)
_RETURNING = re.compile(r"\bRETURNING\b", re.IGNORECASE)
_BIND = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")
_IN_PARENTHESES = re.compile(r"\bIN\s*\(\s*(:\w+)\s*\)", re.IGNORECASE)
_IN = re.compile(r"\bIN\s*:(\w+)", re.IGNORECASE)
_COMPARISON = r"(?:=|<>|!=|<=|>=|<|>|\bLIKE\b|\bIN\b|\bIS\b)"
_LISTS = (
    list,
    tuple,
    set,
    frozenset,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)

_LIST_TYPES: Mapping[Any, TypeEngine[Any]] = {
    int: BigInteger(),
    str: String(),
    float: Double(),
    decimal.Decimal: Numeric(),
    dt.datetime: DateTime(),
    dt.date: Date(),
}


def bind_names(sql: str) -> list[str]:
    """Return the names of the parameters in SQL text, each once, in order."""
    return list(dict.fromkeys(_BIND.findall(_QUOTED.sub("''", sql))))


def as_part(sql: str) -> str:
    """Return SQL text that may stand inside other text: without comments and the last semicolon."""
    return _QUOTED.sub(_without_comment, sql).strip().rstrip("; \n\t")


def _without_comment(quoted: re.Match[str]) -> str:
    found = quoted.group()
    hint = found.startswith(("/*+", "/*!"))  # not for people: the database reads it
    return " " if found.startswith(("--", "/*")) and not hint else found


def in_parentheses(condition: str) -> str:
    """Return a condition that means the same next to others: an OR inside binds less than an AND."""
    part = as_part(condition)
    return f"({part})" if _WEAK.search(part) else part


def returns_rows(sql: str) -> bool:
    """Say whether a statement that writes returns rows."""
    return _RETURNING.search(_QUOTED.sub("''", sql)) is not None


def has_order(sql: str) -> bool:
    """Say whether the outermost statement has an order or limit."""
    bare = _QUOTED.sub("''", sql)
    while (smaller := _INNERMOST.sub("", bare)) != bare:
        bare = smaller
    return _ORDER.search(bare) is not None


def mapper_of(entity: type | None) -> Mapper[Any] | None:
    """Return the mapper of an entity, if there is one."""
    return inspect_entity(entity, raiseerr=False) if entity is not None else None


def _quotes_without_binds(sql: str) -> str:
    # SQLAlchemy takes `':name'` for a parameter too.
    return _QUOTED.sub(lambda quoted: re.sub(r"(?<!\\):", r"\\:", quoted.group()), sql)


def check_parameters(signature: QuerySignature, sql: str, *, besides: frozenset[str] = frozenset()) -> None:
    """Refuse names in the text without a parameter, and parameters that the text does not use.

    Raises:
        QueryDeclarationError: Either is the case.
    """
    used = bind_names(sql)
    given = [name for name in signature.parameters if name not in besides]
    for name in used:
        if name not in given:
            raise signature.wrong(
                f"the text uses :{name}, but there is no parameter {name!r}",
                f"add the parameter `{name}`, or use one of: {', '.join(given) or 'none yet'}.",
            )
    for name in given:
        if name not in used:
            raise signature.wrong(
                f"the parameter {name!r} is not used in the text",
                f"use `:{name}` in the text, or remove the parameter.",
            )


def text_with_types(signature: QuerySignature, sql: str, mapper: Mapper[Any] | None) -> TextClause:
    """Make a text clause whose parameters have the types that their values need."""
    lists = [name for name in bind_names(sql) if takes_list(signature.parameters[name])]
    plain = _IN_PARENTHESES.sub(lambda found: f"IN {found[1]}" if found[1][1:] in lists else found[0], sql)
    clause = text(_quotes_without_binds(plain))
    after_in = set(_IN.findall(plain))
    for name in bind_names(plain):
        annotation = signature.parameters[name]
        many = name in after_in
        kind = _column_type(name, plain, mapper)
        if kind is None:
            kind = _list_type(annotation) if many else _plain_type(annotation)
        if many or kind is not None:
            clause = clause.bindparams(bindparam(name, type_=kind, expanding=many))
    return clause


def takes_list(annotation: object) -> bool:
    """Say whether a parameter takes several values."""
    return _without_none(annotation)[0] in _LISTS


def _element(annotation: object) -> object:
    arguments = _without_none(annotation)[1]
    return arguments[0] if arguments else Any


def _without_none(annotation: object) -> tuple[Any, tuple[Any, ...]]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        members = [member for member in arguments if member is not type(None)]
        if len(members) == 1:
            return _without_none(members[0])
    return origin or annotation, arguments


def _column_type(name: str, sql: str, mapper: Mapper[Any] | None) -> TypeEngine[Any] | None:
    """Find the mapped column that a parameter is compared with; its type converts the values."""
    if mapper is None:
        return None
    left = re.search(rf"(\w+)[\"`]?\s*{_COMPARISON}\s*\(?\s*:{name}\b", sql, re.IGNORECASE)
    right = re.search(rf":{name}\s*{_COMPARISON}\s*[\"`]?(?:\w+\.)?(\w+)", sql, re.IGNORECASE)
    for found in (left, right):
        if found is not None:
            for column in mapper.columns:
                if column.name == found.group(1):
                    return column.type
    return None


def _list_type(annotation: object) -> TypeEngine[Any] | None:
    # An empty list needs a type too, or PostgreSQL compares text with an integer.
    element = _element(annotation)
    return _plain_type(element) or _LIST_TYPES.get(element)


def _plain_type(annotation: object) -> TypeEngine[Any] | None:
    if not isinstance(annotation, type):
        return None
    if issubclass(annotation, uuid.UUID):
        return Uuid()
    if issubclass(annotation, enum.Enum):
        return Enum(annotation)
    return JSON() if issubclass(annotation, dict) else None


def select_for(signature: QuerySignature, shape: Shape, entity: type) -> Select[Any]:
    """Select what the shape asks for from an entity: itself, a count, or the columns of a record.

    Raises:
        QueryDeclarationError: A field of the record is no attribute of the entity.
    """
    if shape.item is Item.ENTITY:
        return select(entity)
    if shape.item is Item.SCALAR and shape.kind is int:
        return select(func.count()).select_from(entity)
    mapper: Mapper[Any] = inspect_entity(entity)
    if shape.item is Item.RECORD:
        return cast("Select[Any]", select(*_record_columns(signature, shape.kind, mapper)))
    if shape.item in (Item.MAPPING, Item.ROW):
        return cast("Select[Any]", select(*(attribute.class_attribute for attribute in mapper.column_attrs)))
    raise signature.wrong(
        f"a condition on {entity.__name__} cannot return {getattr(shape.kind, '__name__', shape.kind)}",
        f"return {entity.__name__}, int (a count), bool (exists) or a record; or write `@query.sql`.",
    )


def _record_columns(signature: QuerySignature, kind: type, mapper: Mapper[Any]) -> list[ColumnElement[Any]]:
    known: Mapping[str, Any] = {attribute.key: attribute.class_attribute for attribute in mapper.column_attrs}
    for name in required_fields_of(kind):
        if name not in known:
            raise signature.wrong(
                f"{kind.__name__}.{name} is no attribute of {mapper.class_.__name__}",
                f"use one of: {', '.join(known)}; or write `@query.sql`.",
            )
    return [known[name].label(name) for name in fields_of(kind) or () if name in known]
