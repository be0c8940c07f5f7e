"""This module writes schemas as source."""

from __future__ import annotations

import builtins
import datetime as dt
import enum
import keyword
import math
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Union

from unitwork._logic.values.annotations import NOTHING, allows_none
from unitwork.errors import DeclarationError
from unitwork.schemas.description import Related
from unitwork.schemas.names import field_names, free_name

if typing.TYPE_CHECKING:
    from unitwork.schemas.description import Schema, SchemaField

__all__ = ["source_of"]

_WIDTH = 88
_OURS = __name__.partition(".")[0]
_SCHEMAS = "unitwork.schemas"


def source_of(schemas: Iterable[Schema], remark: str) -> str:
    """Return the source of a module with the classes that are described.

    Args:
        schemas: What to write; related schemas are written before those that need them.
        remark: The comment at the top.

    Raises:
        DeclarationError: A field needs a class that cannot be imported, or two classes have one name.

    Examples:
        >>> from unitwork.schemas.description import Options, describe
        >>> source = source_of([describe(User, Options.of(purpose="create"))], "For the API.")
        >>> print(source.splitlines()[0])
        # For the API.
        >>> "class UserCreateSchema(EntitySchema):" in source
        True
    """
    return _Source(list(_innermost_first(schemas)), remark).text()


class _Source:
    """Writes one module, and remembers what it imports. Lives: one call.

    A field hides, inside its class, what the module calls the same: a module, a class, `Field`, `float`.
    So whatever the module needs gets a name that is none of a field, nor of a schema.
    """

    def __init__(self, schemas: list[Schema], remark: str) -> None:
        _refuse_doubled(schemas)
        self._schemas = schemas
        self._remark = remark
        self._names = {id(schema): field_names(field.key for field in schema.fields) for schema in schemas}
        fields = {name for names in self._names.values() for name in names.values()}
        self._taken = fields | {schema.name for schema in schemas}
        self._modules: dict[str, str] = {}
        """The modules that are imported, and what they are called here."""
        self._imported: dict[tuple[str, str], str] = {}
        """The module and name of what is imported from a module, and what it is called here."""

    def text(self) -> str:
        """Return the source."""
        classes = [self._class(schema) for schema in self._schemas]
        return "\n".join([f"# {self._remark}", "", *self._imports(), "", "", "\n\n".join(classes)])

    # --- imports ---

    def _imports(self) -> Iterator[str]:
        standard = {name for name in self._modules if name.partition(".")[0] in sys.stdlib_module_names}
        yield from self._import_lines(standard)
        yield from self._from_lines("typing")
        if standard or any(module == "typing" for module, _name in self._imported):
            yield ""
        yield from self._import_lines(self._modules.keys() - standard)
        yield from self._from_lines("pydantic")
        yield from self._from_lines(_SCHEMAS)

    def _import_lines(self, modules: Iterable[str]) -> Iterator[str]:
        for module in sorted(modules):
            called = self._modules[module]
            yield f"import {module}" if called == module else f"import {module} as {called}"

    def _from_lines(self, module: str) -> Iterator[str]:
        found = sorted((name, called) for (where, name), called in self._imported.items() if where == module)
        if found:
            names = (name if called == name else f"{name} as {called}" for name, called in found)
            yield f"from {module} import {', '.join(names)}"

    def _from(self, module: str, name: str) -> str:
        """Import a name, and return what it is called here."""
        return self._imported.setdefault((module, name), free_name(name, self._taken))

    def _module(self, name: str) -> str:
        """Import a module, and return what it is called here."""
        if name not in self._modules:
            free = name.partition(".")[0] not in self._taken
            others = {*self._taken, *self._modules.values()}
            self._modules[name] = name if free else free_name(f"{name.replace('.', '_')}_", others)
        return self._modules[name]

    def _builtin(self, name: str) -> str:
        return f"{self._module('builtins')}.{name}" if name in self._taken else name

    # --- classes ---

    def _class(self, schema: Schema) -> str:
        head = f"class {schema.name}({self._from(_SCHEMAS, 'EntitySchema')}):"
        names = self._names[id(schema)]
        lines = [head, f"    {_docstring(schema.text)}", ""]
        lines += [line for field in schema.fields for line in self._field(field, names[field.key])]
        return "\n".join([*(lines if schema.fields else lines[:-1]), ""])

    def _field(self, field: SchemaField, name: str) -> list[str]:
        head = f"    {name}: {self._kind(field.kind)}"
        options = self._options(field, name)
        if not options:
            return [head]
        if list(options) == ["default"]:
            line = f"{head} = {options['default']}"
            return (
                [line] if len(line) <= _WIDTH else [f"{head} = (", f"        {options['default']}", "    )"]
            )
        call = self._from("pydantic", "Field")
        written = [f"{option}={value}" for option, value in options.items()]
        line = f"{head} = {call}({', '.join(written)})"
        if len(line) <= _WIDTH:
            return [line]
        return [f"{head} = {call}(", *(f"        {option}," for option in written), "    )"]

    def _options(self, field: SchemaField, name: str) -> dict[str, str]:
        options: dict[str, str] = {}
        if field.unset:
            options["default"] = "None" if allows_none(field.kind) else self._from(_SCHEMAS, "UNSET")
        elif field.default is not NOTHING:
            options["default"] = self._value(field.default)
        if name != field.key:
            options["alias"] = _quoted(field.key)
        options |= {option: str(number) for option, number in field.limits.items()}
        if field.text:
            options["description"] = _quoted(field.text)
        return options

    # --- values and types ---

    def _value(self, value: object) -> str:
        if isinstance(value, enum.Enum):
            return self._member(value)
        if isinstance(value, float) and not math.isfinite(value):
            return f'{self._builtin("float")}("{value}")'
        if value is None or isinstance(value, bool | int | float | bytes):
            return repr(value)
        if isinstance(value, str):
            return _quoted(value)
        if isinstance(value, dt.date | dt.time | dt.timedelta):
            return repr(value).replace("datetime.", f"{self._module('datetime')}.")
        return f"{self._class_name(type(value))}({_quoted(str(value))})"

    def _member(self, value: enum.Enum) -> str:
        kind, name = self._class_name(type(value)), value.name
        if name not in type(value).__members__:  # flags together
            return f"{kind}({value.value!r})"
        plain = name.isidentifier() and not keyword.iskeyword(name)
        return f"{kind}.{name}" if plain else f"{kind}[{_quoted(name)}]"

    def _kind(self, kind: Any) -> str:  # noqa: ANN401  # a type
        if isinstance(kind, Related):
            return self._related(kind)
        if kind is Any:
            return self._from("typing", "Any")
        if kind is None or kind is types.NoneType:
            return "None"
        if kind is Ellipsis:
            return "..."
        return self._generic(kind)

    def _related(self, kind: Related) -> str:
        if kind.key is not NOTHING:
            return f"{self._builtin('dict')}[{self._kind(kind.key)}, {kind.schema.name}]"
        if kind.many:
            return f"{self._builtin('list')}[{kind.schema.name}]"
        return f"{kind.schema.name} | None" if kind.optional else kind.schema.name

    def _generic(self, kind: Any) -> str:  # noqa: ANN401  # a type
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is None:
            return self._class_name(kind)
        if origin is Literal:
            values = ", ".join(self._value(value) for value in arguments)
            return f"{self._from('typing', 'Literal')}[{values}]"
        parts = [self._kind(part) for part in arguments]
        if origin in (Union, types.UnionType):
            return " | ".join(parts)
        return f"{self._class_name(origin)}[{', '.join(parts)}]"

    def _class_name(self, kind: Any) -> str:  # noqa: ANN401  # a class, or what stands for one
        name = getattr(kind, "__qualname__", kind.__name__)
        if kind.__module__ == builtins.__name__:
            return self._builtin(name)
        if "<locals>" in name:
            raise DeclarationError(
                f"{kind.__module__}.{name}",
                "a generated schema cannot import a class that is defined in a function",
                "define it in its module.",
            )
        return f"{self._module(_public(kind.__module__, name))}.{name}"


def _refuse_doubled(schemas: Iterable[Schema]) -> None:
    known: dict[str, type] = {}
    for schema in schemas:
        other = known.setdefault(schema.name, schema.model)
        if other is not schema.model:
            raise DeclarationError(
                schema.name,
                f"the schemas of {other.__name__} and of {schema.model.__name__} would both be called so",
                "run the command for each with a file for each, or write one --purpose alone.",
            )


def _public(module: str, name: str) -> str:
    """Return the module to import a class from; what unitwork offers at its top, from there."""
    package = module.partition(".")[0]
    offered = getattr(sys.modules.get(package), "__all__", ()) if package == _OURS else ()
    return package if name.partition(".")[0] in offered else module


def _innermost_first(schemas: Iterable[Schema]) -> Iterator[Schema]:
    for schema in schemas:
        inner = [field.kind.schema for field in schema.fields if isinstance(field.kind, Related)]
        yield from _innermost_first(inner)
        yield schema


def _docstring(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"""{escaped}"""'


def _quoted(text: str) -> str:
    """Return a literal in double quotes where that needs no escapes, as formatters write it."""
    return f'"{text}"' if repr(text) == f"'{text}'" and '"' not in text else repr(text)
