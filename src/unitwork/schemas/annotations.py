"""This module reads what a mapped attribute holds: from its annotation, else from its column."""

from __future__ import annotations

import sys
import types
import typing
from typing import Any, Literal, TypeVar, Union

from sqlalchemy import ARRAY, ColumnElement, Enum
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapper, declared_attr
from typing_extensions import Format, get_annotations

from unitwork.models.shared import SharedColumn

__all__: list[str] = []

NOTHING: Any = object()
_UNIONS = (Union, types.UnionType)


def annotated_kind(mapper: Mapper[Any], key: str) -> Any:  # noqa: ANN401  # a type
    """Return the type inside `Mapped[...]`; NOTHING if there is no annotation."""
    for owner in mapper.class_.__mro__:
        found = _declared(owner, key, mapper)
        if found is not NOTHING:
            return plain(_inside(found))
    return NOTHING


def column_kind(column: ColumnElement[Any]) -> Any:  # noqa: ANN401  # a type
    """Return what a column without an annotation holds, as far as its type says it."""
    kind = column.type
    if isinstance(kind, Enum) and kind.enum_class is None:
        return Literal[tuple(kind.enums)]
    if isinstance(kind, ARRAY):
        return list[Any]
    try:
        found = kind.python_type
    except NotImplementedError:
        return Any
    return Any if found is object else found


def without_none(kind: Any) -> Any:  # noqa: ANN401  # a type
    """Return a type without its None; SQLAlchemy's column knows better whether there may be one."""
    if typing.get_origin(kind) not in _UNIONS:
        return kind
    rest = tuple(part for part in typing.get_args(kind) if part is not types.NoneType)
    return Union[rest]  # noqa: UP007  # of a tuple


def allows_none(kind: Any) -> bool:  # noqa: ANN401  # a type
    """Say whether None is one of the types."""
    return kind is Any or (typing.get_origin(kind) in _UNIONS and types.NoneType in typing.get_args(kind))


def plain(kind: Any) -> Any:  # noqa: ANN401  # a type
    """Return a type without `Annotated`, type variables and new types, at every depth."""
    if isinstance(kind, typing.NewType):
        return plain(kind.__supertype__)
    if isinstance(kind, TypeVar):
        return Any
    origin: Any = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin is typing.Annotated:
        return plain(arguments[0])
    if origin is None or origin is Literal:
        return kind
    parts = tuple(plain(part) for part in arguments)
    if origin in _UNIONS:
        return Union[parts]  # noqa: UP007  # of a tuple
    return origin[parts]


def _declared(owner: type, key: str, mapper: Mapper[Any]) -> Any:  # noqa: ANN401  # a type
    given = vars(owner).get(key)
    if isinstance(given, SharedColumn):
        return given.kind_of(mapper.class_)
    if isinstance(given, hybrid_property):
        return _evaluated(get_annotations(given.fget).get("return", NOTHING), owner, mapper)
    own = get_annotations(owner, format=Format.FORWARDREF)
    if key in own:
        return _evaluated(own[key], owner, mapper)
    if isinstance(given, declared_attr):
        return _evaluated(get_annotations(given.fget).get("return", NOTHING), owner, mapper)
    return NOTHING


def _evaluated(annotation: Any, owner: type, mapper: Mapper[Any]) -> Any:  # noqa: ANN401  # a type
    """Resolve the names in an annotation: in its module, in its class, and among the models."""
    if annotation is NOTHING:
        return NOTHING
    carrier = type("Carrier", (), {"__annotations__": {"value": annotation}})
    known = {each.class_.__name__: each.class_ for each in mapper.registry.mappers}
    names = {**known, **vars(owner)}
    spaces = vars(sys.modules[owner.__module__]) if owner.__module__ in sys.modules else {}
    try:
        return typing.get_type_hints(carrier, spaces, names, include_extras=True)["value"]
    except (NameError, TypeError, SyntaxError, AttributeError):
        # A name that is imported for type checkers only.
        return NOTHING


def _inside(kind: Any) -> Any:  # noqa: ANN401  # a type
    origin = typing.get_origin(kind)
    wrapped = isinstance(origin, type) and origin.__module__.startswith("sqlalchemy.")
    return typing.get_args(kind)[0] if wrapped else kind
