"""This module holds the UPDATE or DELETE of rows by a condition, where no entity needs to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Delete, Update

from unitwork._logic.effects import WRITES
from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.lanes.arguments import Arguments, Filled, encoders
from unitwork._runtime.lanes.loading import why_not_simple
from unitwork._runtime.lanes.sending import parameters_of
from unitwork._sqlalchemy.private import cache_key, has_loader_options

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from unitwork._logic.effects import Effects
    from unitwork._runtime.lanes.calls import StatementCall
    from unitwork.dialects.direct import Column, Direct, Rows

_NO_PLAIN_CHANGE = LaneRefusal("it is no plain UPDATE or DELETE")
_RETURNS_ROWS = LaneRefusal("it returns rows")
_FILLED_IN_BY_PYTHON = LaneRefusal("Python fills in a value when a row is changed")


class CompiledChange:
    """One UPDATE or DELETE as a driver is given it. Lives: as long as it is cached."""

    @classmethod
    def of(cls, call: StatementCall, dialect: Dialect) -> CompiledChange | LaneRefusal:
        """Compile a statement; or say why it, or the model that it changes, needs more than a driver."""
        statement = call.statement
        if not isinstance(statement, Update | Delete) or has_loader_options(statement):
            return _NO_PLAIN_CHANGE
        mapper = getattr(statement.entity_description.get("entity"), "__mapper__", None)
        refusal = _NO_PLAIN_CHANGE if mapper is None else why_not_simple(mapper)
        if refusal is not None:
            return refusal
        compiled: Any = statement.compile(dialect=dialect, cache_key=cache_key(statement))
        if compiled.effective_returning:
            return _RETURNS_ROWS
        if compiled.update_prefetch:
            return _FILLED_IN_BY_PYTHON
        encode = encoders(compiled, dialect)
        return encode if isinstance(encode, LaneRefusal) else cls(Arguments(compiled, encode))

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments


class ChangeCall(NamedTuple):
    """One call of a change. Its rows are the numbers of those that it has touched."""

    name: str
    statement: object
    filled: Filled

    @property
    def writes(self) -> bool:
        return True

    @property
    def adds(self) -> bool:
        return False

    @property
    def needs_primary(self) -> bool:
        return True

    @property
    def effects(self) -> Effects:
        return WRITES

    @property
    def sql(self) -> str:
        return self.filled.sql

    @property
    def parameters(self) -> Any:  # noqa: ANN401  # as SQLAlchemy takes them for its driver
        """The arguments as `exec_driver_sql` takes them."""
        return parameters_of(self.filled.arguments)

    async def rows(self, direct: Direct, driver: Any) -> Rows:  # noqa: ANN401  # of any driver
        return range(await direct.changed(driver, *self.filled))

    def described_by(self, cursor: Any) -> None:  # noqa: ANN401  # as the DBAPI says
        """It has no columns."""

    def learnt(self, columns: list[Column]) -> None:
        """It has none."""

    def forget_columns(self) -> None:
        """It knows none."""

    def following(self, rows: Rows | LaneRefusal) -> None:
        """Nothing is to be sent after it."""
