"""This module gives types to pico-ioc's decorators, which mark what they are put on and return it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import pico_ioc

_Class = TypeVar("_Class")
_Marked = TypeVar("_Marked", bound=Callable[..., Any])

_untyped: Any = pico_ioc


def component(cls: type[_Class], **options: object) -> type[_Class]:
    """Mark a class: containers make it."""
    marked: type[_Class] = _untyped.component(cls, **options)
    return marked


def configured(prefix: str) -> Callable[[type[_Class]], type[_Class]]:
    """Mark a dataclass: containers fill it with this part of their configuration."""
    mark: Any = _untyped.configured(target="self", prefix=prefix, mapping="tree")
    return cast("Callable[[type[_Class]], type[_Class]]", mark)


def provides(key: type) -> Callable[[_Marked], _Marked]:
    """Mark a function: containers call it for this type, unless the application provides it itself."""
    # Of several for one type pico-ioc takes that with the longest name.
    mark: Callable[[_Marked], _Marked] = _untyped.provides(key, name="")
    return mark


def configure(method: _Marked) -> _Marked:
    """Mark a method: containers call it at the end of `init`."""
    marked: _Marked = _untyped.configure(method)
    return marked


def cleanup(method: _Marked) -> _Marked:
    """Mark a method: containers call it at their end."""
    marked: _Marked = _untyped.cleanup(method)
    return marked
