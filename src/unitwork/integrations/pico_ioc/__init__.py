"""This package puts Databases, transactions and repositories into pico-ioc containers."""

from unitwork.errors import MissingExtraError

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
