"""This module writes schemas as source."""

from __future__ import annotations

import datetime as dt
import enum
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Union

from unitwork.errors import DeclarationError
from unitwork.schemas.annotations import NOTHING, allows_none
from unitwork.schemas.description import Related
from unitwork.schemas.names import field_name

if typing.TYPE_CHECKING:
    from unitwork.schemas.description import Schema, SchemaField

__all__ = ["source_of"]

_WIDTH = 88
_OURS = __name__.partition(".")[0]
_TAKEN = frozenset({"Any", "EntitySchema", "Field", "Literal", "UNSET"})


def source_of(schemas: Iterable[Schema], remark: str) -> str:
    """Return the source of a module with the classes that are described.

    Args:
        schemas: What to write; related schemas are written before those that need them.
        remark: The comment at the top.

    Raises:
        DeclarationError: A field needs a class that cannot be imported.
    """
    return _Source().module(list(schemas), remark)


class _Source:
    """Writes one module, and remembers what it imports. Lives: one call."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.names: set[str] = set()
        self.fields: set[str] = set()
        self.uses_field = False
        self.uses_unset = False

    def module(self, schemas: list[Schema], remark: str) -> str:
        ordered = list(_innermost_first(schemas))
        self.fields = {field_name(field.key) for schema in ordered for field in schema.fields}
        classes = [self._class(schema) for schema in ordered]
        return "\n".join([f"# {remark}", "", *self._imports(), "", "", "\n\n".join(classes)])

    def _imports(self) -> Iterator[str]:
        standard = {name for name in self.modules if name.partition(".")[0] in sys.stdlib_module_names}
        yield from self._imported(standard)
        if self.names:
            yield f"from typing import {', '.join(sorted(self.names))}"
        if standard or self.names:
            yield ""
        yield from self._imported(self.modules - standard)
        if self.uses_field:
            yield "from pydantic import Field"
        yield f"from unitwork.schemas import {'UNSET, ' if self.uses_unset else ''}EntitySchema"

    def _imported(self, modules: Iterable[str]) -> Iterator[str]:
        for name in sorted(modules):
            alias = self._alias(name)
            yield f"import {name}" if alias == name else f"import {name} as {alias}"

    def _alias(self, module: str) -> str:
        """Return the name of a module; a field of the same name would hide it inside its class."""
        root = module.partition(".")[0]
        return f"{module.replace('.', '_')}_" if root in self.fields | _TAKEN else module

    def _class(self, schema: Schema) -> str:
        lines = [f"class {schema.name}(EntitySchema):", f'    """{schema.text}"""', ""]
        lines += [line for field in schema.fields for line in self._field(field)]
        return "\n".join([*lines, ""])

    def _field(self, field: SchemaField) -> list[str]:
        head = f"    {field_name(field.key)}: {self._kind(field.kind)}"
        options = self._options(field)
        if not options:
            return [head]
        if list(options) == ["default"]:
            line = f"{head} = {options['default']}"
            return (
                [line] if len(line) <= _WIDTH else [f"{head} = (", f"        {options['default']}", "    )"]
            )
        self.uses_field = True
        written = [f"{name}={value}" for name, value in options.items()]
        line = f"{head} = Field({', '.join(written)})"
        if len(line) <= _WIDTH:
            return [line]
        return [f"{head} = Field(", *(f"        {option}," for option in written), "    )"]

    def _options(self, field: SchemaField) -> dict[str, str]:
        options: dict[str, str] = {}
        if field.unset and not allows_none(field.kind):
            self.uses_unset = True
            options["default"] = "UNSET"
        elif field.unset:
            options["default"] = "None"
        elif field.default is not NOTHING:
            options["default"] = self._value(field.default)
        if field_name(field.key) != field.key:
            options["alias"] = _quoted(field.key)
        options |= {name: str(number) for name, number in field.limits.items()}
        if field.text:
            options["description"] = _quoted(field.text)
        return options

    def _value(self, value: object) -> str:
        if isinstance(value, enum.Enum):
            return f"{self._class_name(type(value))}.{value.name}"
        if value is None or isinstance(value, bool | int | float | bytes):
            return repr(value)
        if isinstance(value, str):
            return _quoted(value)
        if isinstance(value, dt.date | dt.time | dt.timedelta):
            self.modules.add("datetime")
            return repr(value).replace("datetime.", f"{self._alias('datetime')}.")
        return f"{self._class_name(type(value))}({_quoted(str(value))})"

    def _kind(self, kind: Any) -> str:  # noqa: ANN401  # a type
        if isinstance(kind, Related):
            if kind.many:
                return f"list[{kind.schema.name}]"
            return f"{kind.schema.name} | None" if kind.optional else kind.schema.name
        if kind is Any:
            self.names.add("Any")
            return "Any"
        if kind is None or kind is types.NoneType:
            return "None"
        if kind is Ellipsis:
            return "..."
        return self._generic(kind)

    def _generic(self, kind: Any) -> str:  # noqa: ANN401  # a type
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is None:
            return self._class_name(kind)
        if origin is Literal:
            self.names.add("Literal")
            return f"Literal[{', '.join(self._value(value) for value in arguments)}]"
        parts = [self._kind(part) for part in arguments]
        if origin in (Union, types.UnionType):
            return " | ".join(parts)
        return f"{self._class_name(origin)}[{', '.join(parts)}]"

    def _class_name(self, kind: type) -> str:
        if kind.__module__ == "builtins":
            return kind.__qualname__
        if "<locals>" in kind.__qualname__:
            raise DeclarationError(
                f"{kind.__module__}.{kind.__qualname__}",
                "a generated schema cannot import a class that is defined in a function",
                "define it in its module.",
            )
        module = _public(kind)
        self.modules.add(module)
        return f"{self._alias(module)}.{kind.__qualname__}"


def _public(kind: type) -> str:
    """Return the module to import a class from; what unitwork offers at its top, from there."""
    package = kind.__module__.partition(".")[0]
    offered = getattr(sys.modules.get(package), "__all__", ()) if package == _OURS else ()
    return package if kind.__qualname__.partition(".")[0] in offered else kind.__module__


def _innermost_first(schemas: Iterable[Schema]) -> Iterator[Schema]:
    for schema in schemas:
        inner = [field.kind.schema for field in schema.fields if isinstance(field.kind, Related)]
        yield from _innermost_first(inner)
        yield schema


def _quoted(text: str) -> str:
    """Return a literal in double quotes where that needs no escapes, as formatters write it."""
    return f'"{text}"' if repr(text) == f"'{text}'" and '"' not in text else repr(text)
