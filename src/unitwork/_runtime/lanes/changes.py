"""This module holds the UPDATE or DELETE of rows by a condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Delete, Update
from typing_extensions import override

from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.lanes.arguments import Arguments, Filled, encoders
from unitwork._runtime.lanes.loading import why_not_simple
from unitwork._runtime.lanes.sending import StatementThatWrites, parameters_of
from unitwork._sqlalchemy.private import Evaluated, cache_key, has_loader_options

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import Mapper, Session

    from unitwork._runtime.lanes.arguments import Processors
    from unitwork._runtime.lanes.calls import Call
    from unitwork.dialects.direct import Column, Direct, Rows

_NO_PLAIN_CHANGE = LaneRefusal("it is no plain UPDATE or DELETE")
_RETURNS_ROWS = LaneRefusal("it returns rows")
_FILLED_IN_BY_PYTHON = LaneRefusal("Python fills in a value when a row is changed")


class CompiledChange:
    """One UPDATE or DELETE as a driver is given it. Lives: as long as it is cached."""

    @classmethod
    def of(cls, call: Call, dialect: Dialect) -> CompiledChange | LaneRefusal:
        """Compile a statement; or say why it, or the model that it changes, needs more than a driver."""
        statement = call.statement
        if not isinstance(statement, Update | Delete) or has_loader_options(statement):
            return _NO_PLAIN_CHANGE
        entity: Any = statement.entity_description.get("entity")
        mapper: Any = getattr(entity, "__mapper__", None)
        refusal = _NO_PLAIN_CHANGE if mapper is None else why_not_simple(mapper)
        if refusal is not None:
            return refusal
        compiled: Any = statement.compile(dialect=dialect, cache_key=cache_key(statement))
        if compiled.effective_returning:
            return _RETURNS_ROWS
        if compiled.update_prefetch:
            return _FILLED_IN_BY_PYTHON
        encode = encoders(compiled, dialect)
        return encode if isinstance(encode, LaneRefusal) else cls(statement, compiled, encode)

    def __init__(self, statement: Update | Delete, compiled: Any, encode: Processors) -> None:  # noqa: ANN401  # of SQLAlchemy's
        self.statement = statement
        self.mapper: Mapper[Any] = statement.entity_description["entity"].__mapper__
        self.arguments = Arguments(compiled, encode)
        self._expired = list(compiled.postfetch)

    def touches_held(self, held: Session) -> bool:
        """Say whether a session holds any entity that it may touch."""
        known: Any = held.identity_map
        return any(key[0] is self.mapper.class_ for key in known)

    def tell(self, evaluated: Evaluated, held: Session) -> None:
        """Let the entities that a session holds know what was done to their rows."""
        evaluated.tell(held, self._expired)


@dataclass(frozen=True, slots=True)
class ChangeCall(StatementThatWrites):
    """One call of a change."""

    change: CompiledChange
    name: str
    call: Call
    filled: Filled

    @property
    def statement(self) -> object:
        return self.change.statement  # with other values

    def evaluated(self) -> Evaluated | None:
        """Return what tells in Python which entities that are held it touches; None if nothing can."""
        # What parameters stand for is not seen there.
        return None if self.call.parameters else Evaluated.of(self.call.statement, self.change.mapper)

    @property
    def sql(self) -> str:
        return self.filled.sql

    @property
    @override
    def parameters(self) -> Any:
        return parameters_of(self.filled.arguments)

    async def rows(self, direct: Direct, driver: Any) -> Rows:  # noqa: ANN401  # of any driver
        """Send it; its rows are the numbers of those that it has touched."""
        return range(await direct.changed(driver, *self.filled))

    def described_by(self, cursor: Any) -> None:  # noqa: ANN401  # as the DBAPI says
        """It has no columns."""

    def learnt(self, columns: list[Column]) -> None:
        """It has none."""

    def forget_columns(self) -> None:
        """It knows none."""
