"""This module gives columns of mixins to models, also as keyword arguments of dataclass models."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from sqlalchemy.orm import Mapped, MappedAsDataclass, MappedColumn, declared_attr
from typing_extensions import Format, get_annotations

__all__: list[str] = []


class SharedColumn(declared_attr[Any]):
    """A column that a mixin gives to each model.

    Args:
        kind: What the attribute holds, or a function of the model that says so.
        make: Makes the column for a model; further keywords go to `mapped_column`.
        **options: Keywords for `mapped_column` in a dataclass model alone.
    """

    def __init__(
        self,
        kind: object,
        make: Callable[..., MappedColumn[Any]],
        **options: Any,
    ) -> None:
        super().__init__(make)
        self.kind = kind
        self.make = make
        self.options = options

    def kind_of(self, model: type) -> Any:  # noqa: ANN401  # a type
        """Return what the attribute holds in a model."""
        if isinstance(self.kind, FunctionType):
            return self.kind(model)
        return self.kind

    def declare(self, model: type, name: str) -> tuple[str, object]:
        """Declare the column in the body of a dataclass model, so that it becomes a field."""
        setattr(model, name, self.make(model, **self.options))
        return name, Mapped[self.kind_of(model)]  # type: ignore[misc]  # known at run time


def declare_shared(model: type) -> None:
    """Declare the shared columns of a dataclass model as its own, after its other fields.

    SQLAlchemy makes fields of annotations alone, and of a mixin that is no dataclass it takes none.
    """
    if "__abstract__" in vars(model) or not issubclass(model, MappedAsDataclass):
        return
    own = get_annotations(model, format=Format.FORWARDREF)
    fields = [
        column.declare(model, name)
        for name, (mixin, column) in _shared_columns(model).items()
        if name not in own and name not in vars(model) and not _is_inherited(model, mixin)
    ]
    model.__annotations__ = {**own, **dict(fields)}


def _shared_columns(model: type) -> dict[str, tuple[type, SharedColumn]]:
    return {
        name: (mixin, value)
        for mixin in reversed(model.__mro__)
        for name, value in vars(mixin).items()
        if isinstance(value, SharedColumn)
    }


def _is_inherited(model: type, mixin: type) -> bool:
    return any("__mapper__" in vars(base) and issubclass(base, mixin) for base in model.__mro__[1:])
