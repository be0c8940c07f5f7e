"""What annotations of the public names say can be asked for while a program runs."""

import inspect
import typing
from collections.abc import Iterator
from types import FunctionType

import pytest
from sqlalchemy.types import TypeEngine

import unitwork


def public_callables() -> Iterator[tuple[str, FunctionType]]:
    """Each public function and method, and what reads each public property, with its name."""
    for name in unitwork.__all__:
        value = getattr(unitwork, name)
        if inspect.isfunction(value):
            yield name, value
        kind = value if isinstance(value, type) else type(value)
        for cls in kind.__mro__ if kind.__module__.startswith("unitwork") else ():
            for key, member in vars(cls).items() if cls.__module__.startswith("unitwork") else ():
                function = getattr(member, "fget", None) or getattr(member, "__func__", member)
                ours = inspect.isfunction(function) and function.__module__.startswith("unitwork")
                if ours and (key.startswith("__") or not key.startswith("_")):
                    yield f"{name}.{key} of {cls.__name__}", function


@pytest.mark.parametrize("function", [pytest.param(each, id=name) for name, each in public_callables()])
def test_hints_of_public_functions_are_known_at_run_time(function: FunctionType) -> None:
    """`typing.get_type_hints` answers for all of them: containers and tools for documentation ask it."""
    hints = typing.get_type_hints(function)

    assert {"return", *hints} == {"return", *function.__annotations__}


def public_classes() -> Iterator[str]:
    """The names of public classes but types of columns: SQLAlchemy's own have hints for checkers alone."""
    for name in unitwork.__all__:
        value = getattr(unitwork, name)
        if isinstance(value, type) and not issubclass(value, TypeEngine):
            yield name


@pytest.mark.parametrize("name", list(public_classes()))
def test_hints_of_public_classes_are_known_at_run_time(name: str) -> None:
    """So do the attributes of public classes."""
    kind = getattr(unitwork, name)

    assert typing.get_type_hints(kind).keys() >= inspect.get_annotations(kind).keys()
