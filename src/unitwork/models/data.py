"""This module turns entities into plain data, and plain data into entities."""

from __future__ import annotations

import inspect as python
from collections.abc import Callable, Collection, Iterable, Mapping, MutableSequence, MutableSet, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

from sqlalchemy import inspect
from sqlalchemy.orm import (
    CompositeProperty,
    InstanceState,
    KeyFuncDict,
    Mapper,
    RelationshipProperty,
    SynonymProperty,
)
from sqlalchemy.orm.base import PASSIVE_NO_FETCH, PASSIVE_NO_RESULT, PassiveFlag
from typing_extensions import Unpack

from unitwork._later import later
from unitwork._runtime.edges import edge
from unitwork._sqlalchemy.dialects import is_of
from unitwork.errors import OptionError, UnloadedAttributeError
from unitwork.options import SchemaKeywords

if TYPE_CHECKING:
    from sqlalchemy.ext.associationproxy import AssociationProxy

if TYPE_CHECKING:  # what a program that makes no data of its entities does not use
    from unitwork._logic import records
    from unitwork._logic import values as columns
    from unitwork.models import values as json
else:
    records = later("unitwork._logic.records")
    columns = later("unitwork._logic.values")
    json = later("unitwork.models.values")

__all__: list[str] = []

METADATA = "__metadata__"
_SENDS_NOTHING = PASSIVE_NO_FETCH | PassiveFlag.NO_RAISE


class SchemaClass(Protocol):
    """A Pydantic model class."""

    model_fields: Mapping[str, Any]

    def model_validate(self, obj: object) -> Any:  # noqa: ANN401  # an instance of this class
        """Check an entity or a mapping, and make an instance of it."""
        ...


class PlainData:
    """What the bases add to each model: a repr, and ways to plain data and back."""

    def __repr__(self) -> str:
        state = _state(self)
        loaded = [key for key in _columns(state.mapper) if key in state.dict]
        return f"{type(self).__name__}({', '.join(f'{key}={state.dict[key]!r}' for key in loaded)})"

    def to_dict(self, fields: Collection[str] | None = None, *, with_meta: bool = False) -> dict[str, Any]:
        """Return the attributes as a dict. Sends nothing.

        Args:
            fields: Names of columns, loaded relationships, hybrids and properties. Without it, all columns
                that are not deferred.
            with_meta: Add `__metadata__`: the model as 'module:Class', and its table.

        Raises:
            UnloadedAttributeError: An attribute is not loaded.
            OptionError: A name in `fields` is no attribute.

        Examples:
            >>> User(id=1, email="ann@example.com").to_dict(fields=["id", "email"])
            {'id': 1, 'email': 'ann@example.com'}
        """
        state = _state(self)
        names = _plain_columns(state.mapper) if fields is None else list(fields)
        for name in names:
            if name not in state.mapper.all_orm_descriptors and not hasattr(type(self), name):
                raise OptionError("fields", name, [repr(known) for known in _columns(state.mapper)])
        unloaded = unloaded_attributes(self, names)
        if unloaded:
            raise UnloadedAttributeError(type(self).__name__, unloaded)
        held = state.mapper.column_attrs
        found = {name: (_copied if name in held else _as_data)(getattr(self, name)) for name in names}
        return {**found, METADATA: _metadata(state.mapper)} if with_meta else found

    def dump_model(self, fields: Collection[str] | None = None, *, with_meta: bool = False) -> dict[str, Any]:
        """Return what `to_dict` does, ready for `json.dumps`.

        Times are ISO 8601, UUIDs and decimals text, enums their values, bytes base64.

        Raises:
            UnloadedAttributeError: An attribute is not loaded.
            OptionError: A name in `fields` is no attribute, or a value has no form in JSON.
        """
        composites = _state(self).mapper.composites
        found = self.to_dict(fields, with_meta=with_meta)
        return {
            name: json.to_json(name, _parts(composites[name], value) if name in composites else value)
            for name, value in found.items()
        }

    def id_key(self) -> str:
        """Return a text that names this row among those of all models, for caches and logs. Sends nothing.

        A new entity has no key yet; its text is that of this object alone.

        Examples:
            >>> User(id=1, email="ann@example.com").id_key()
            'User:1'
        """
        state = _state(self)
        names = [state.mapper.get_property_by_column(column).key for column in state.mapper.primary_key]
        key = [state.dict.get(name) for name in names]
        name = f"transient_{id(self)}" if None in key else ",".join(map(str, key))
        return f"{type(self).__name__}:{name}"

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Self:
        """Make a new entity of what `to_dict` or `dump_model` returned, or of a part of it. Sends nothing.

        Text becomes what the column holds, such as a UUID or a time; mappings become related entities.

        Raises:
            OptionError: The data is no mapping, a name is no attribute, or text cannot be read as what the
                column holds.
            TypeError: A dataclass model lacks a field.

        Examples:
            >>> User.load({"email": "ann@example.com"}).email
            'ann@example.com'
        """
        if not isinstance(data, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # nobody checks what JSON holds
            allowed = [f"a mapping of attributes, such as {cls.__name__}(...).to_dict()"]
            raise OptionError("data", type(data).__name__, allowed)
        mapper: Mapper[Any] = inspect(cls)
        values = {name: _loaded(mapper, name, value) for name, value in data.items() if name != METADATA}
        accepted = _accepted(cls, values)
        entity = cls(**{name: values[name] for name in accepted})
        for name in values.keys() - set(accepted):
            setattr(entity, name, values[name])
        return entity

    @classmethod
    def pydantic_schema(cls, **options: Unpack[SchemaKeywords]) -> SchemaClass:
        """Return a Pydantic model of this class, as `unitwork.schemas.schema_for` does.

        Args:
            **options: `purpose` ("read", "create" or "update"), `include`, `exclude`, `depth`.

        Raises:
            MissingExtraError: Pydantic is not installed.
        """
        schema: SchemaClass = edge("schemas").schema_for(cls, **options)
        return schema


def unloaded_attributes(entity: object, names: Iterable[str]) -> list[str]:
    """Return those of these attributes whose reading would need the database."""
    state = _state(entity)
    return [name for name in names if not _is_loaded(state, name)]


def _state(entity: object) -> InstanceState[Any]:
    state: InstanceState[Any] = inspect(entity)
    return state


def _columns(mapper: Mapper[Any]) -> list[str]:
    return [attribute.key for attribute in mapper.column_attrs]


def _plain_columns(mapper: Mapper[Any]) -> list[str]:
    return [attribute.key for attribute in mapper.column_attrs if not attribute.deferred]


def _is_loaded(state: InstanceState[Any], name: str) -> bool:
    """Say whether reading this attribute would send nothing."""
    if name in state.dict:
        return True
    needed = _needed_for(state.mapper, name)
    if needed is not None:
        return all(_is_loaded(state, each) for each in needed)
    found: object = state.manager[name].impl.get(state, state.dict, _SENDS_NOTHING)
    return found is not PASSIVE_NO_RESULT


def _needed_for(mapper: Mapper[Any], name: str) -> list[str] | None:
    """Return the attributes that another one is read from; None if it is loaded by itself."""
    descriptor = mapper.all_orm_descriptors.get(name)
    if is_of(descriptor, "sqlalchemy.ext.associationproxy", "AssociationProxy"):
        return [cast("AssociationProxy[Any]", descriptor).target_collection]
    attribute = mapper.attrs.get(name)
    if isinstance(attribute, CompositeProperty):
        return [each.key for each in attribute.props]
    if isinstance(attribute, SynonymProperty):
        return [attribute.name]
    return [] if attribute is None else None


def is_keyed(relationship: RelationshipProperty[Any]) -> bool:
    """Say whether the related entities are held in a dict."""
    held = relationship.collection_class
    return isinstance(held, type) and issubclass(held, Mapping)


def _copied(value: object) -> object:
    """Return the value of a column, of its own class, apart from that of the entity."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, MutableSequence) and not isinstance(value, bytearray):
        return [_copied(item) for item in value]
    return set(value) if isinstance(value, MutableSet) else value


def _as_data(value: object) -> object:
    if isinstance(value, PlainData):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _as_data(item) for key, item in value.items()}
    if isinstance(value, MutableSequence | AbstractSet | tuple) and not isinstance(value, bytearray):
        return [_as_data(item) for item in value]
    return value


def _parts(attribute: CompositeProperty[Any], value: Any) -> object:  # noqa: ANN401  # of any class
    """Return the parts of a composite value by the names that its class gives them."""
    if value is None:
        return None
    return {name: getattr(value, name) for name in _names_of(attribute)}


def _names_of(attribute: CompositeProperty[Any]) -> Sequence[str]:
    kind = attribute.composite_class
    return records.fields_of(kind) or list(python.signature(kind).parameters)


def _composed(mapper: Mapper[Any], attribute: CompositeProperty[Any], value: object) -> object:
    """Make a composite value of its parts."""
    if not isinstance(value, Mapping):
        return value
    held = dict(zip(_names_of(attribute), attribute.props, strict=True))
    for name in value:
        if name not in held:
            raise OptionError(attribute.key, name, [repr(each) for each in held])
    make: Callable[..., object] = attribute.composite_class
    parts = {
        name: json.from_json(name, part, columns.values_of(mapper, held[name].key))
        for name, part in value.items()
    }
    return make(**parts)


def _metadata(mapper: Mapper[Any]) -> dict[str, str]:
    model = mapper.class_
    return {"model": f"{model.__module__}:{model.__qualname__}", "table": str(mapper.local_table)}


def _loaded(mapper: Mapper[Any], name: str, value: object) -> object:
    attribute = mapper.attrs.get(name)
    if attribute is None:
        if name in mapper.all_orm_descriptors:
            return value
        raise OptionError("attribute", name, [repr(known.key) for known in mapper.attrs])
    if isinstance(attribute, RelationshipProperty):
        return _related(attribute, value)
    if isinstance(attribute, CompositeProperty):
        return _composed(mapper, attribute, value)
    if name not in mapper.column_attrs:
        return value
    return json.from_json(name, value, columns.values_of(mapper, name))


def _related(relationship: RelationshipProperty[Any], value: object) -> object:
    """Make related entities of mappings: one, or several in a list, a set, or by their keys."""
    model: type[PlainData] = relationship.mapper.class_
    held = relationship.collection_class
    if isinstance(value, Mapping) and is_keyed(relationship):
        return _by_key(held, {key: _entity(model, item) for key, item in value.items()})
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
        made = [_entity(model, item) for item in value]
        return set(made) if isinstance(held, type) and issubclass(held, AbstractSet) else made
    return _entity(model, value)


def _by_key(kind: Any, entities: Mapping[Any, object]) -> Mapping[Any, object]:  # noqa: ANN401  # a class
    """Return entities by the keys that they have, of which JSON has made text."""
    held = kind()
    if not isinstance(held, KeyFuncDict):
        return entities
    for entity in entities.values():
        held.set(entity)
    return dict(held)


def _entity(model: type[PlainData], value: object) -> object:
    return model.load(value) if isinstance(value, Mapping) else value


def _accepted(model: type, names: Iterable[str]) -> list[str]:
    """Return the names that the constructor takes; a dataclass takes its `init` fields alone."""
    parameters = python.signature(model).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return list(names)
    return [name for name in names if name in parameters]
