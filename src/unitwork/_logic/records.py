"""This module builds records (dataclasses, tuples, structs, models, dicts) from rows."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NotRequired, Required

from typing_extensions import ReadOnly, get_type_hints, is_typeddict

from unitwork._logic.values import Converter, ValueTypeError, classes_as_promised, converter_for

_Class: typing.TypeAlias = Any
Builder: typing.TypeAlias = Callable[[Sequence[Sequence[Any]]], list[Any]]
"""Makes items of rows."""
_Build: typing.TypeAlias = Callable[[Sequence[Any]], Any]
"""Makes an item of the values of one row."""

_MARKS = (typing.Annotated, Required, NotRequired, ReadOnly)
"""What stands around the type of a key of a typed dict."""


class MissingColumnError(Exception):
    """A record needs a column that the rows do not have; the text is the name of the field."""


def fields_of(kind: _Class) -> tuple[str, ...] | None:
    """Return the names of the fields that rows fill in a record class; None for other classes."""
    if dataclasses.is_dataclass(kind):
        return tuple(_parameters_of(kind))
    if hasattr(kind, "_fields"):
        return tuple(kind._fields)
    if is_typeddict(kind):
        return tuple(_hints(kind))
    if hasattr(kind, "__struct_fields__"):  # msgspec
        return tuple(kind.__struct_fields__)
    if hasattr(kind, "model_fields"):  # Pydantic
        return tuple(kind.model_fields)
    return None


def required_fields_of(kind: _Class) -> frozenset[str]:
    """Return the fields of a record class that have no default."""
    if dataclasses.is_dataclass(kind):
        missing = dataclasses.MISSING
        return frozenset(
            name
            for name, field in _parameters_of(kind).items()
            if field.default is missing and field.default_factory is missing
        )
    if hasattr(kind, "_fields"):
        return frozenset(kind._fields) - frozenset(kind._field_defaults)
    if is_typeddict(kind):
        return frozenset(_required_keys(kind))
    if hasattr(kind, "__struct_fields__"):
        parameters = inspect.signature(kind).parameters.values()
        return frozenset(each.name for each in parameters if each.default is each.empty)
    fields: dict[str, Any] = getattr(kind, "model_fields", {})
    return frozenset(name for name, field in fields.items() if field.is_required())


def field_types_of(kind: _Class) -> Mapping[str, Any]:
    """Return the annotation of each field that can be read; Pydantic converts values itself."""
    if hasattr(kind, "__pydantic_validator__") and not hasattr(kind, "model_fields"):
        # A dataclass of Pydantic's: its validators say what becomes of None.
        return {name: each | None for name, each in _hints(kind).items()}
    if hasattr(kind, "model_fields"):
        return {}
    return {
        name: each.type if isinstance(each, dataclasses.InitVar) else each
        for name, each in _hints(kind).items()
    }


def _parameters_of(kind: _Class) -> dict[str, dataclasses.Field[Any]]:
    """Return the fields that the constructor of a dataclass takes, `InitVar` among them."""
    stored = {field.name: field.init for field in dataclasses.fields(kind)}
    known: dict[str, dataclasses.Field[Any]] = kind.__dataclass_fields__
    passed = {name for name, each in _hints(kind).items() if isinstance(each, dataclasses.InitVar)}
    return {name: field for name, field in known.items() if stored.get(name, name in passed)}


def _required_keys(kind: _Class) -> typing.Iterator[str]:
    """Yield the keys that a typed dict must have; itself it knows not where its annotations are text."""
    said = vars(kind)["__required_keys__"]
    for name, hint in _hints(kind, include_extras=True).items():
        required = name in said
        while (origin := typing.get_origin(hint)) in _MARKS:
            required = origin is Required or (required and origin is not NotRequired)
            hint = typing.get_args(hint)[0]  # noqa: PLW2901  # what is marked
        if required:
            yield name


def _hints(kind: _Class, *, include_extras: bool = False) -> dict[str, Any]:
    try:
        return get_type_hints(kind, include_extras=include_extras)
    except (NameError, TypeError):
        # Names that only a type checker knows: the values are taken as they come.
        return dict.fromkeys(getattr(kind, "__annotations__", ()), Any)


def record_builder(kind: _Class, names: Sequence[str], *, convert: bool = True) -> Builder:
    """Return a function that makes records from rows whose columns have these names.

    Columns that the record does not know are left out. With `convert`, values that the database
    gives in another type than the field's annotation become what the annotation says.

    Raises:
        MissingColumnError: A field without a default is in no column.
    """
    known = fields_of(kind)
    if known is None:  # a plain dict: all columns
        return lambda rows: [dict(zip(names, row, strict=True)) for row in rows]
    for name in known:
        if name not in names and name in required_fields_of(kind):
            raise MissingColumnError(name)
    used = [name for name in known if name in names]
    places = [list(names).index(name) for name in used]
    chosen, build = _chooser(places, len(names)), _constructor(kind, used, convert=convert)
    converted = _converted(kind, used) if convert else []

    def build_all(rows: Sequence[Sequence[Any]]) -> list[Any]:
        if chosen is not None:
            rows = [chosen(row) for row in rows]
        for place, converter, as_promised in converted:
            # Column by column, since nearly always all values are what they should be.
            if not as_promised.issuperset(map(type, map(itemgetter(place), rows))):
                rows = [_with(row, place, converter) for row in rows]
        return [build(row) for row in rows]

    return build_all


def _second_try(build: _Build, hints: Mapping[str, Any], names: Sequence[str]) -> _Build:
    """Give a Pydantic model what its fields say where it refuses what came, such as the name of a member.

    Its own validators see the values as they come first; only they know what they make of them.
    """
    converters = [converter_for(hints[name] | None) if name in hints else None for name in names]

    def built(values: Sequence[Any]) -> Any:  # noqa: ANN401  # a record
        try:
            return build(values)
        except ValueError:  # Pydantic's is one
            changed = [_changed(*each) for each in zip(converters, values, strict=True)]
            if all(one is other for one, other in zip(values, changed, strict=True)):
                raise
        return build(changed)

    return built


def _changed(converter: Converter | None, value: Any) -> Any:  # noqa: ANN401  # a value of any type
    try:
        return value if converter is None else converter(value)
    except ValueTypeError:
        return value


def _with(row: Sequence[Any], place: int, converter: Converter) -> Sequence[Any]:
    values = list(row)
    values[place] = converter(values[place])
    return values


def _chooser(places: list[int], width: int) -> Callable[[Sequence[Any]], Sequence[Any]] | None:
    """Return what takes the columns at these places from a row; None if the row itself is that."""
    if places == list(range(width)):
        return None
    if len(places) == 1:
        return lambda row: (row[places[0]],)
    return itemgetter(*places) if places else lambda _row: ()


def _constructor(kind: _Class, names: list[str], *, convert: bool) -> _Build:
    if is_typeddict(kind):
        return lambda values: dict(zip(names, values, strict=True))
    if hasattr(kind, "model_validate"):
        build = _validation(kind, names)
        return _second_try(build, _hints(kind), names) if convert else build
    if _takes_positions(kind, names):
        return lambda values: kind(*values)
    return lambda values: kind(**dict(zip(names, values, strict=True)))


def _validation(kind: _Class, names: list[str]) -> _Build:
    paths = [_pydantic_path(kind, name) for name in names]
    validate = kind.model_validate
    if any(len(path) > 1 for path in paths):
        return lambda values: validate(_nested(paths, values))
    keys = [path[0] for path in paths]
    return lambda values: validate(dict(zip(keys, values, strict=True)))


def _pydantic_path(kind: _Class, name: str) -> Sequence[Any]:
    """Return where a Pydantic model looks for a field: by one name, or step by step."""
    alias = kind.model_fields[name].validation_alias
    by_name = kind.model_config.get("populate_by_name") or kind.model_config.get("validate_by_name")
    if alias is None or by_name:
        return [name]
    first, *others = getattr(alias, "choices", [alias])
    chosen = next((each for each in [first, *others] if isinstance(each, str)), first)
    path: Sequence[Any] = [chosen] if isinstance(chosen, str) else chosen.path
    return path


def _nested(paths: Sequence[Sequence[Any]], values: Sequence[Any]) -> dict[Any, Any]:
    """Put values where their paths lead; a number of a place in a list is a key as well."""
    whole: dict[Any, Any] = {}
    for path, value in zip(paths, values, strict=True):
        inside = whole
        for step in path[:-1]:
            inside = inside.setdefault(step, {})
        inside[path[-1]] = value
    return whole


def _takes_positions(kind: _Class, names: list[str]) -> bool:
    if fields_of(kind) is None or tuple(names) != (fields_of(kind) or ())[: len(names)]:
        return False
    if dataclasses.is_dataclass(kind):
        return not any(field.kw_only for field in dataclasses.fields(kind) if field.name in names)
    config = getattr(kind, "__struct_config__", None)
    return config is None


def _converted(kind: _Class, names: list[str]) -> list[tuple[int, Converter, frozenset[type]]]:
    """Return the places of values that may have to be converted, by what, and the classes that need not."""
    types = field_types_of(kind)
    annotations = ((place, types.get(name, Any)) for place, name in enumerate(names))
    found = ((place, converter_for(each), classes_as_promised(each)) for place, each in annotations)
    return [(place, converter, kinds) for place, converter, kinds in found if converter is not None]
