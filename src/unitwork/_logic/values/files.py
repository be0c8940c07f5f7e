"""This module writes values to files, and reads them again: in CSV as text, in JSON lines, in Parquet."""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import TypeDecorator

from unitwork._logic.values.classes import class_of
from unitwork._logic.values.columns import ColumnValues, inner_type
from unitwork._logic.values.ranges import bound_type, is_range, range_text, read_range
from unitwork._logic.values.texts import DAYS, ENDS_OF_TIME, UnreadableValueError, json_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Dialect


class FileForm:
    """How the values of one column stand in files. None is the caller's matter. Lives: one command.

    Args:
        values: What the column holds.
        dialect: That of the database; types of the program's own may ask for it.
    """

    def __init__(self, values: ColumnValues, dialect: Dialect) -> None:
        values = values.on(dialect)
        self.values = values
        self._dialect = dialect
        # Of a decorator whose values nobody knows, files hold what the type inside gets.
        self._inside: FileForm | None = None
        if values.changed and values.known is None and not _is_enum(values.kind) and not values.is_pickled:
            self._inside = FileForm(ColumnValues(inner_type(values.type, dialect)), dialect)
        self._ends: FileForm | None = None
        if is_range(values.inner) and not values.changed:
            ends = bound_type(values.inner)
            self._ends = None if ends is None else FileForm(ColumnValues(ends), dialect)
        self._element = None if values.element is None else FileForm(values.element, dialect)
        self._labels = _labels(values)

    @property
    def name(self) -> str:
        """What the values are, for a person: a class, or the labels of an enumeration."""
        values = self.values
        if values.choices:
            return f"one of {', '.join(values.choices)}"
        return values.kind.__name__ if values.kind is not None else str(values.type)

    @property
    def is_structured(self) -> bool:
        """Whether the values are JSON: objects and lists, which text holds as JSON text."""
        if self._inside is not None:
            return self._inside.is_structured
        return self.values.is_json or self._element is not None or self.values.kind in (dict, list, set)

    def to_text(self, value: Any) -> str:  # noqa: ANN401  # a value of the column
        """Return a value as CSV holds it.

        Raises:
            UnreadableValueError: It has no form that could be read again.
        """
        if self._inside is not None:
            return self._inside.to_text(self._stored(value))
        if self.is_structured:
            return json_text(self.to_json(value))
        if self.values.is_pickled:
            raise UnreadableValueError("a pickle, which files do not hold")
        if is_range(self.values.inner):
            return self._range_text(value)
        known = self.values.known or class_of(value)
        return (
            self._label(value) if self._labels else (known.text(value) if known is not None else str(value))
        )

    def from_text(self, text: str) -> Any:  # noqa: ANN401  # a value of the column
        """Return the value that a text of a file stands for.

        Raises:
            ValueError: It stands for none.
        """
        if self._inside is not None:
            return self._loaded(self._inside.from_text(text))
        if self.is_structured:
            return self.from_json(json.loads(text))
        if self.values.is_pickled:
            raise UnreadableValueError("a pickle, which is not read from a file")
        if self._ends is not None:
            return read_range(text, self.values.inner, self._ends.from_text)
        if self._labels:
            return self._member(text)
        if text in ENDS_OF_TIME and self.values.kind in DAYS and self._dialect.driver != "asyncpg":
            # asyncpg alone takes Python's first and last day for them; elsewhere they would become that day.
            raise UnreadableValueError(text)
        return text if self.values.known is None else self.values.known.read(text)

    def to_json(self, value: Any) -> Any:  # noqa: ANN401  # what JSON holds
        """Return a value as JSON lines hold it.

        Raises:
            UnreadableValueError: It has no form that could be read again.
        """
        if self._inside is not None:
            return self._inside.to_json(self._stored(value))
        if self._element is not None:
            return _each(value, self._element.to_json)
        if self.is_structured:
            return sorted(value) if isinstance(value, set) else value
        if self.values.is_pickled or self._labels or is_range(self.values.inner):
            return self.to_text(value)
        known = self.values.known or class_of(value)
        return str(value) if known is None else known.json(value)

    def from_json(self, value: Any) -> Any:  # noqa: ANN401  # a value of the column
        """Return the value that JSON, or a file that knows types such as Parquet, stands for.

        Raises:
            ValueError: It stands for none.
        """
        if self._inside is not None:
            return self._loaded(self._inside.from_json(value))
        if self._element is not None:
            return _each(_list(value), self._element.from_json)
        if self.is_structured:
            return set(_list(value)) if self.values.kind is set else value
        if self._labels or isinstance(value, str):
            return self._member(value) if self._labels else self.from_text(value)
        if self.values.known is not None:
            return self.values.known.read_json(value)
        raise UnreadableValueError(type(value).__name__)

    def _stored(self, value: Any) -> Any:  # noqa: ANN401  # what the type inside takes
        kind = self.values.type
        while isinstance(kind, TypeDecorator) and value is not None:
            if type(kind).process_bind_param is not TypeDecorator.process_bind_param:
                value = kind.process_bind_param(value, self._dialect)
            kind = kind.impl_instance
        if value is None:
            raise UnreadableValueError("a value that its type would store as NULL")
        return value

    def _range_text(self, value: Any) -> str:  # noqa: ANN401  # a range
        if self._ends is None:
            raise UnreadableValueError(f"a {self.values.type}, of which nobody has said what its ends are")
        return range_text(value, self._ends.to_text)

    def _loaded(self, value: Any) -> Any:  # noqa: ANN401  # a value of the column
        around: list[TypeDecorator[Any]] = []
        kind = self.values.type
        while isinstance(kind, TypeDecorator):
            around.append(kind)
            kind = kind.impl_instance
        for decorator in reversed(around):
            if type(decorator).process_result_value is not TypeDecorator.process_result_value:
                value = decorator.process_result_value(value, self._dialect)
        return value

    def _label(self, value: Any) -> str:  # noqa: ANN401  # a member, or a label
        found = next((label for label, member in self._labels.items() if member is value), None)
        return str(value) if found is None else found

    def _member(self, value: Any) -> Any:  # noqa: ANN401  # a member, or a label
        """Return what a label stands for; other programs often write values of members."""
        if isinstance(value, str) and value in self._labels:
            return self._labels[value]
        for member in self._labels.values():
            if isinstance(member, enum.Enum) and (member is value or member.value == value):
                return member
        # CSV holds numbers as text.
        for member in self._labels.values():
            if isinstance(member, enum.Enum) and str(member.value) == value:
                return member
        raise UnreadableValueError(str(value))


def _is_enum(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


def _labels(values: ColumnValues) -> dict[str, Any]:
    """Return what each label of an enumeration stands for."""
    inner: Any = values.inner
    if values.choices:
        members = inner._object_lookup  # noqa: SLF001  # the only place that has them all
        return {label: members[label] for label in values.choices}
    kind: Any = values.kind
    return dict(kind.__members__) if _is_enum(kind) else {}


def _list(value: Any) -> Any:  # noqa: ANN401  # a list
    if not isinstance(value, list | tuple):
        raise UnreadableValueError(type(value).__name__)
    return value


def _each(items: Any, change: Callable[[Any], Any]) -> Any:  # noqa: ANN401  # lists of lists
    return [
        _each(item, change) if isinstance(item, list | tuple) else (None if item is None else change(item))
        for item in items
    ]
