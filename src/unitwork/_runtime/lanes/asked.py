"""This module says what is asked of a database: a statement, and the values of one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.sql.cache_key import CacheKey


class Asked(NamedTuple):
    """One statement with the values of one call.

    Args:
        statement: Any that SQLAlchemy can run.
        parameters: The values that are not in the statement itself.
        writes: It may change something.
        names: Of its parameters, for errors.
        fixed: It is the same object in each call.
    """

    statement: Any
    parameters: Mapping[str, Any] | None = None
    writes: bool = False
    names: tuple[str, ...] = ()
    fixed: bool = False

    def cache_key(self) -> CacheKey | None:
        """Return what SQLAlchemy knows the statement by, whatever its values; memoized in there."""
        key: CacheKey | None = self.statement._generate_cache_key()  # noqa: SLF001  # as its extensions do
        return key
