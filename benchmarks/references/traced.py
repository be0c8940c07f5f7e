"""unitwork with listeners on SQLAlchemy's cursors, as the tracers of the field have them."""

from typing import Any

from sqlalchemy import event
from typing_extensions import override

from benchmarks.place import Place
from benchmarks.references.engine import database_apart
from benchmarks.references.ours import Ours
from unitwork import Database

TITLE = "unitwork, traced"
REQUIREMENTS: tuple[str, ...] = ()
DATABASES = ("postgresql", "sqlite", "mariadb")


def _begin(_connection: object, _cursor: object, sql: str, *more: Any) -> tuple[str, Any]:  # of any driver
    parameters, context, _many = more
    context.begun = sql
    return sql, parameters


def _end(
    _connection: object, _cursor: object, _sql: str, _parameters: object, context: Any, _many: object
) -> None:  # as SQLAlchemy calls it
    del context.begun


class Traced(Ours):
    """As its users write it, with a tracer."""

    @override
    def database(self, place: Place) -> Database:
        db = database_apart(place, "traced")
        event.listen(db.engine.sync_engine, "before_cursor_execute", _begin, retval=True)
        event.listen(db.engine.sync_engine, "after_cursor_execute", _end)
        return db


async def connect(place: Place) -> Traced:
    """Make the contender."""
    return Traced(place)
