"""This module writes types and defaults into migrations so that these run as they were written."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

from alembic.autogenerate.render import _repr_type  # pyright: ignore[reportPrivateUsage]
from sqlalchemy import TypeDecorator
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType, TypeEngine

from unitwork.models import UTCDateTime

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

__all__: list[str] = []

_ALEMBICS_OWN = ("sqlalchemy.", "alembic.")


def render(kind: str, found: Any, autogenerate: AutogenContext) -> str | Literal[False]:  # noqa: ANN401  # whatever is written
    """Return the source of a type or default, and import what it needs; False to leave it to Alembic."""
    if kind == "type" and isinstance(found, UTCDateTime):
        autogenerate.imports.add("import unitwork.models")
        return "unitwork.models.UTCDateTime()"
    if kind == "type" and type(found) is NullType:
        # A column of SQLite may have no type. Alembic's `sa.NullType` is nowhere.
        return f"{autogenerate.opts['sqlalchemy_module_prefix']}types.NullType()"
    if kind == "type" and isinstance(found, TypeEngine):
        return _type(found, autogenerate)
    function = getattr(found, "arg", None) if kind == "server_default" else None
    if isinstance(function, FunctionElement) and type(function).__module__.startswith("unitwork."):
        autogenerate.imports.add("import unitwork.models")
        return f"unitwork.models.{type(function).__name__}()"
    return False


def _type(found: TypeEngine[Any], autogenerate: AutogenContext) -> str | Literal[False]:
    """Write a type of the program's own, or of another library."""
    kind = type(found)
    if kind.__module__.startswith(_ALEMBICS_OWN):
        return False
    if found._variant_mapping:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        # Alembic writes these type by type, and each as it writes types by itself.
        autogenerate.imports.add(f"import {kind.__module__}")
        return False
    name = f"{kind.__module__}.{kind.__qualname__}"
    for written in (f"{name}{repr(found).removeprefix(kind.__name__)}", f"{name}()"):
        if _is_written_as(written, found, autogenerate):
            autogenerate.imports.add(f"import {kind.__module__}")
            return written
    if isinstance(found, TypeDecorator):
        # What it was made with cannot be read off it. The column is the same with the type inside.
        return _repr_type(found.load_dialect_impl(autogenerate.dialect), autogenerate)
    return False


def _is_written_as(written: str, found: TypeEngine[Any], autogenerate: AutogenContext) -> bool:
    """Say whether this source makes the same type in a file that imports its module."""
    module = type(found).__module__
    root = module.partition(".")[0]
    if module == "__main__":
        return False
    try:
        made = eval(written, {root: sys.modules[root]})  # noqa: S307  # a type of the program, as Alembic writes it
        same: bool = made.compile(autogenerate.dialect) == found.compile(autogenerate.dialect)
    except Exception:  # noqa: BLE001  # of code of others
        return False
    return same and type(made) is type(found)
