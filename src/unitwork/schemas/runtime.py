"""This module makes schemas at run time."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model

from unitwork._logic.values.annotations import NOTHING
from unitwork.schemas.description import Options, Related, describe
from unitwork.schemas.entity import EntitySchema
from unitwork.schemas.names import field_names

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from unitwork.options import SchemaKeywords
    from unitwork.schemas.description import Schema, SchemaField

__all__ = ["schema_for"]

_made: weakref.WeakKeyDictionary[type, dict[Options, type[EntitySchema]]] = weakref.WeakKeyDictionary()


def schema_for(model: type, **options: Unpack[SchemaKeywords]) -> type[EntitySchema]:
    """Return a Pydantic model of a mapped class; the same one each time.

    Args:
        model: The mapped class.
        **options: `purpose`: "read" (the default) has all columns that are not deferred; "create" those
            that a new row needs, without keys, versions and times that are filled in; "update" the same,
            each of which may be left out. `include`: these attributes instead; of "read" also relationships,
            hybrids, composites, synonyms and association proxies. `exclude`: not these. `depth`: follow
            relationships so many steps (0); "read" only.

    Raises:
        DeclarationError: The class is no model.
        OptionError: An option has a value that does not exist, or names what such a schema cannot have.

    Examples:
        >>> schema = schema_for(User, purpose="create")
        >>> schema(email="ann@example.com").active
        True
    """
    chosen = Options.of(**options)
    made = _made.setdefault(model, {})
    if chosen not in made:
        made[chosen] = class_of(describe(model, chosen))
    return made[chosen]


def class_of(schema: Schema) -> type[EntitySchema]:
    """Make the class that a description describes."""
    names = field_names(field.key for field in schema.fields)
    fields: dict[str, Any] = {names[field.key]: _field(field, names[field.key]) for field in schema.fields}
    return create_model(
        schema.name, __base__=EntitySchema, __module__=schema.model.__module__, __doc__=schema.text, **fields
    )


def _field(field: SchemaField, name: str) -> tuple[Any, Any]:
    options: dict[str, Any] = dict(field.limits)
    if field.text:
        options["description"] = field.text
    if name != field.key:
        options["alias"] = field.key
    if field.unset:
        options["default"] = None
    elif field.default is not NOTHING:
        options["default"] = field.default
    return _kind(field.kind), Field(**options)


def _kind(kind: Any) -> Any:  # noqa: ANN401  # a type
    if not isinstance(kind, Related):
        return kind
    inner = class_of(kind.schema)
    if kind.key is not NOTHING:
        return dict[kind.key, inner]  # type: ignore[valid-type]  # known at run time
    if kind.many:
        return list[inner]  # type: ignore[valid-type]  # known at run time
    return inner | None if kind.optional else inner
