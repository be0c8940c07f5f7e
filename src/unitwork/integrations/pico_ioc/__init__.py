"""This package puts Databases, transactions and repositories into pico-ioc containers."""

from typing import TYPE_CHECKING

from unitwork.errors import MissingExtraError, lines

try:
    import pico_ioc as _pico_ioc
except ModuleNotFoundError as missing:
    raise MissingExtraError("unitwork.integrations.pico_ioc", "pico-ioc", "pico") from missing

from sqlalchemy.orm import Mapped, mapped_column

from unitwork._logic.paging import Page, PageRequest, Sort
from unitwork.database import get_session
from unitwork.integrations.pico_ioc.models import AppBase
from unitwork.integrations.pico_ioc.queries import query
from unitwork.integrations.pico_ioc.repositories import repository
from unitwork.integrations.pico_ioc.session import SessionManager
from unitwork.integrations.pico_ioc.set_up import DatabaseConfigurer
from unitwork.integrations.pico_ioc.settings import DatabaseSettings
from unitwork.integrations.pico_ioc.start import init
from unitwork.integrations.pico_ioc.transactions import transactional

del _pico_ioc

__all__ = [
    "AppBase",
    "DatabaseConfigurer",
    "DatabaseSettings",
    "Mapped",
    "Page",
    "PageRequest",
    "SessionManager",
    "Sort",
    "get_session",
    "init",
    "mapped_column",
    "query",
    "repository",
    "transactional",
]

_INSTEAD = {
    "AlembicMigrator": "set `database.migrations_path`: the migrations run before each DatabaseConfigurer.",
    "RepositoryQueryInterceptor": "leave it out: `@query` runs the query itself.",
    "SqlAlchemyFactory": "provide a SessionManager of your own instead: `@provides(SessionManager)`.",
    "TransactionalInterceptor": "put `@transactional` on the method, which opens its block itself.",
}
"""What does the work of the parts of pico-sqlalchemy that have none here."""

if not TYPE_CHECKING:  # a checker knows by itself which names there are

    def __getattr__(name: str) -> object:
        """Answer an import of what only pico-sqlalchemy has."""
        if name in _INSTEAD:
            raise ImportError(
                lines(f"{__name__} has no {name}: nothing is left for it to do.", f"Fix: {_INSTEAD[name]}")
            )
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
