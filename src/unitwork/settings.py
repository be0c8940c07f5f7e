"""This module says where a database is: by a URL, by its parts, or by the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypeAlias

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from unitwork.errors import OptionError

__all__ = ["DatabaseSettings"]

_DRIVER_NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where a database is: its URL, the parts of one, or both; the password is never printed.

    What is not given, the driver chooses. May be a field of Pydantic models and settings.

    Args:
        drivername: Database and driver, such as "postgresql+asyncpg".
        username: Who connects.
        password: As it is; it is escaped in the URL.
        host: The server.
        port: Its port.
        database: The name of the database, or the file of SQLite.
        query: Arguments for the driver: a mapping, or text as in a URL, such as "ssl=require&timeout=5".
        dsn: A whole URL; parts that are given too replace its own.

    Raises:
        OptionError: Neither `dsn` nor `drivername` is given, `drivername` is a whole URL, `password` is no
            text, or `query` is other text.

    Examples:
        >>> settings = DatabaseSettings(
        ...     drivername="postgresql+asyncpg", username="app", password="p@ss", host="db"
        ... )
        >>> settings.url().render_as_string(hide_password=False)
        'postgresql+asyncpg://app:p%40ss@db'
        >>> "p@ss" in repr(settings)
        False
    """

    drivername: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int | None = None
    database: str | None = None
    query: Mapping[str, Any] | str = field(default_factory=dict, repr=False)
    dsn: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not (self.dsn or self.drivername):
            raise OptionError("drivername", self.drivername, ["such as 'postgresql+asyncpg'", "a `dsn`"])
        if self.drivername and not _DRIVER_NAME.fullmatch(self.drivername):
            # Neither are these repeated, for the same reason as below.
            allowed = ["a name such as 'postgresql+asyncpg'; a whole URL is a `dsn`"]
            raise OptionError("drivername", "text of another form", allowed)
        if not isinstance(self.password, str | None):  # pyright: ignore[reportUnnecessaryIsInstance]  # people bring others
            allowed = ["text; that of a `SecretStr` is `.get_secret_value()`"]
            raise OptionError("password", type(self.password).__name__, allowed)
        if isinstance(self.query, str) and not all("=" in each for each in self.query.split("&") if each):
            # It is not repeated: arguments may be secrets.
            raise OptionError("query", "text of another form", ["text such as 'ssl=require&timeout=5'"])

    @classmethod
    def from_environment(
        cls, prefix: str = "DATABASE_", environment: Mapping[str, str] | None = None
    ) -> Self:
        """Read the variables `DATABASE_URL` (or `DATABASE_DSN`), `DATABASE_PASSWORD` and so on.

        An empty variable is none.

        Args:
            prefix: What the names of the variables begin with; the rest is the name of a field.
            environment: Variables, instead of those of this process.

        Raises:
            OptionError: No variable says where the database is, two say it, or a port is no number.

        Examples:
            >>> variables = {"SHOP_URL": "postgresql+asyncpg://app@db/shop", "SHOP_PASSWORD": "p@ss"}
            >>> DatabaseSettings.from_environment("SHOP_", variables).url()
            postgresql+asyncpg://app:***@db/shop
        """
        found = _Variables(prefix, os.environ if environment is None else environment)
        given: dict[str, Any] = {each.name: found.get(each.name) for each in fields(cls)}
        given |= {"dsn": found.dsn(), "port": found.port(), "query": found.get("query") or {}}
        if not (given["dsn"] or given["drivername"]):
            parts = ", ".join(f"{prefix}{each.name.upper()}" for each in fields(cls)[:-1])
            raise OptionError(f"{prefix}URL", None, ["the URL of the database", f"its parts: {parts}"])
        return cls(**given)

    def url(self) -> URL:
        """Build the SQLAlchemy URL; special characters are escaped.

        Raises:
            sqlalchemy.exc.ArgumentError: The `dsn` cannot be read.
        """
        known = URL.create(self.drivername or "") if self.dsn is None else read_url(self.dsn)
        names = ("drivername", "username", "password", "host", "port", "database")
        parts: dict[str, Any] = {name: getattr(self, name) for name in names}
        url = known.set(**{name: value for name, value in parts.items() if value is not None})
        if isinstance(self.query, str):
            return url.update_query_string(self.query)
        return url.update_query_dict(self.query)


WrittenURL: TypeAlias = str | URL | DatabaseSettings


def url_of(written: WrittenURL) -> URL:
    """Return the URL that a person wrote in one of these ways.

    Raises:
        sqlalchemy.exc.ArgumentError: It cannot be read.
    """
    return written.url() if isinstance(written, DatabaseSettings) else read_url(written)


def read_url(text: str | URL) -> URL:
    """Read a URL.

    Raises:
        sqlalchemy.exc.ArgumentError: It cannot be read. The text is not repeated: it may hold a password.
    """
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        # SQLAlchemy's own text for a wrong port can show a part of an unescaped password.
        raise ArgumentError(
            "The URL of the database cannot be read.\n"
            "  Fix: write driver://user:password@host/name, such as 'postgresql+asyncpg://app@db/shop'; "
            "escape the password, such as %40 for @."
        ) from None


@dataclass(frozen=True, slots=True)
class _Variables:
    """The variables of an environment whose names begin alike. Lives: one reading."""

    prefix: str
    environment: Mapping[str, str]

    def get(self, name: str) -> str | None:
        return self.environment.get(f"{self.prefix}{name.upper()}") or None

    def dsn(self) -> str | None:
        url, dsn = self.get("url"), self.get("dsn")
        if url and dsn and url != dsn:
            allowed = [f"one of {self.prefix}URL and {self.prefix}DSN"]
            raise OptionError(f"{self.prefix}DSN", "another address", allowed)
        return url or dsn

    def port(self) -> int | None:
        text = self.get("port")
        if text is not None and not text.isdecimal():
            raise OptionError(f"{self.prefix}PORT", text, ["the number of a port"])
        return None if text is None else int(text)
