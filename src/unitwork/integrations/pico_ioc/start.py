"""This module starts containers that find this integration under the name it is published by."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

import pico_ioc

from unitwork.errors import UnitworkError

_PUBLISHED_NAME = "pico_sqlalchemy"
_PACKAGE = __name__.rpartition(".")[0]


def init(
    modules: str | ModuleType | Iterable[str | ModuleType] = (), **options: Any
) -> pico_ioc.PicoContainer:
    """Start a container, as `pico_ioc.init`; this integration need not be named among the modules.

    The module name "pico_sqlalchemy" means this integration too.

    Args:
        modules: Modules, packages or their names, whose components the container holds.
        **options: As for `pico_ioc.init`: `config`, `overrides`, `profiles`, …

    Raises:
        pico_ioc.PicoError: The components do not fit together, or one cannot be made.
        DeclarationError: The configuration has no `database.url`, or two configurers of one database
            have the same priority.

    Database:
        What the migrations and configurers send; without them nothing.

    Examples:
        >>> from pico_ioc import DictSource, configuration
        >>> from unitwork.integrations.pico_ioc import SessionManager
        >>> config = configuration(DictSource({"database": {"url": "sqlite+aiosqlite:///shop.db"}}))
        >>> container = init([], config=config)
        >>> container.get(SessionManager)
        <Database 'default' at sqlite+aiosqlite:///shop.db>
    """
    named = [modules] if isinstance(modules, str | ModuleType) else list(modules)
    names = {_PUBLISHED_NAME, _PACKAGE}
    others = [each for each in named if getattr(each, "__name__", each) not in names]
    try:
        return pico_ioc.init([*others, _PACKAGE], **options)
    except pico_ioc.ComponentCreationError as error:
        cause: BaseException = error
        while isinstance(cause, pico_ioc.ComponentCreationError):
            cause = cause.cause
        if isinstance(cause, UnitworkError):
            raise cause from None
        raise
