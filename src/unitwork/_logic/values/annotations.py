"""This module reads what an annotation says of values: of a parameter, a field, a mapped attribute."""

from __future__ import annotations

import collections.abc
import sys
import types
import typing
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, Union, runtime_checkable

from sqlalchemy.orm import declared_attr
from typing_extensions import Format, get_annotations

from unitwork._sqlalchemy.dialects import is_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapper

NOTHING: Any = object()
"""No annotation; None is one."""

LISTS = (
    list,
    tuple,
    set,
    frozenset,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Collection,
    collections.abc.Set,
)
_UNIONS = (Union, types.UnionType)


def without_none(annotation: Any) -> Any:  # noqa: ANN401  # a type
    """Return a type without its None."""
    if typing.get_origin(annotation) not in _UNIONS:
        return annotation
    rest = tuple(part for part in typing.get_args(annotation) if part is not types.NoneType)
    return Union[rest]  # noqa: UP007  # of a tuple


def allows_none(annotation: Any) -> bool:  # noqa: ANN401  # a type
    """Say whether None is one of the values."""
    if annotation is Any or annotation is None or annotation is types.NoneType:
        return True
    return typing.get_origin(annotation) in _UNIONS and types.NoneType in typing.get_args(annotation)


def refuses_none(annotation: Any) -> bool:  # noqa: ANN401  # a type
    """Say whether None is surely none of the values; of what is not known here, such as a name, it may be."""
    for other in ("__supertype__", "__value__"):  # `NewType("Name", ...)`, `type Name = ...`
        if hasattr(annotation, other):
            return refuses_none(getattr(annotation, other))
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _UNIONS:
        return all(refuses_none(part) for part in arguments)
    if origin is Literal:
        return None not in arguments
    if origin is typing.Annotated or (arguments and not isinstance(origin, type)):
        return refuses_none(arguments[0])  # `Final[int]`
    kind = origin or annotation
    if not isinstance(kind, type) or kind is Any or getattr(kind, "_is_protocol", False):
        return False
    return not isinstance(None, kind)


def element_of(annotation: Any) -> Any:  # noqa: ANN401  # a type
    """Return what a list holds, Any if the list does not say it; NOTHING if this is no list."""
    single = without_none(annotation)
    origin, arguments = typing.get_origin(single), typing.get_args(single)
    if (origin or single) not in LISTS:
        return NOTHING
    return arguments[0] if arguments else Any


def plain_type(annotation: object) -> Any:  # noqa: ANN401  # a class, or None
    """Return the class of one value, without `| None` and lists; None if it is not known."""
    single = without_none(annotation)
    element = element_of(single)
    if element is not NOTHING:
        return plain_type(element) if element is not Any else None
    return class_or_none(single)


def class_or_none(annotation: Any) -> type | None:  # noqa: ANN401  # a type
    """Return an annotation that is a class; Any is one, and says nothing."""
    return annotation if isinstance(annotation, type) and annotation not in (Any, object) else None


def plain(annotation: Any) -> Any:  # noqa: ANN401  # a type
    """Return a type without `Annotated`, type variables and new types, at every depth."""
    if isinstance(annotation, typing.NewType):
        return plain(annotation.__supertype__)
    if isinstance(annotation, TypeVar):
        return Any
    origin: Any = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return plain(arguments[0])
    if origin is None or origin is Literal:
        return annotation
    parts = tuple(plain(part) for part in arguments)
    if origin in _UNIONS:
        return Union[parts]  # noqa: UP007  # of a tuple
    return origin[parts]


@runtime_checkable
class SaysItsKind(Protocol):
    """A declared column that knows what its attribute holds, where no annotation stands in the class."""

    def kind_of(self, model: type) -> Any:  # noqa: ANN401  # a type
        """Return what the attribute holds in a model."""
        ...


def annotated_kind(mapper: Mapper[Any], key: str) -> Any:  # noqa: ANN401  # a type
    """Return the type inside `Mapped[...]`; NOTHING if there is no annotation."""
    for owner in mapper.class_.__mro__:
        found = _declared(owner, key, mapper)
        if found is not NOTHING:
            return plain(_inside(found))
    return NOTHING


def _declared(owner: type, key: str, mapper: Mapper[Any]) -> Any:  # noqa: ANN401  # a type
    given = vars(owner).get(key)
    if isinstance(given, declared_attr) and isinstance(given, SaysItsKind):
        return given.kind_of(mapper.class_)
    if is_of(given, "sqlalchemy.ext.hybrid", "hybrid_property"):
        hybrid: Any = given
        return _evaluated(get_annotations(hybrid.fget).get("return", NOTHING), owner, mapper)
    own = get_annotations(owner, format=Format.FORWARDREF)
    if key in own:
        return _evaluated(own[key], owner, mapper)
    if isinstance(given, declared_attr):
        return _evaluated(get_annotations(given.fget).get("return", NOTHING), owner, mapper)
    return NOTHING


def _evaluated(annotation: Any, owner: type, mapper: Mapper[Any]) -> Any:  # noqa: ANN401  # a type
    """Resolve the names in an annotation: in its class, in its module, and among the models.

    An attribute is no type, also where it is called as its type: `date: Mapped[date]`.
    """
    if annotation is NOTHING:
        return NOTHING
    carrier = type("Carrier", (), {"__annotations__": {"value": annotation}})
    models = {each.class_.__name__: each.class_ for each in mapper.registry.mappers}
    module = vars(sys.modules[owner.__module__]) if owner.__module__ in sys.modules else {}
    inside = {name: value for name, value in vars(owner).items() if name not in mapper.all_orm_descriptors}
    try:
        return typing.get_type_hints(carrier, {**models, **module}, inside, include_extras=True)["value"]
    except (NameError, TypeError, SyntaxError, AttributeError):
        # A name that is imported for type checkers only.
        return NOTHING


def _inside(kind: Any) -> Any:  # noqa: ANN401  # a type
    origin = typing.get_origin(kind)
    wrapped = isinstance(origin, type) and origin.__module__.startswith("sqlalchemy.")
    return typing.get_args(kind)[0] if wrapped else kind
