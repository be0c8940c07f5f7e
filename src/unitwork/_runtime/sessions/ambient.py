"""This module holds the session of blocks and units: SQLAlchemy's, whose plain statements are quick."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select
from sqlalchemy.engine import ChunkedIteratorResult
from typing_extensions import override

from unitwork._runtime.lanes.by_key import ByKey
from unitwork._runtime.lanes.loading import NeedsSession
from unitwork._runtime.sessions.session import TurnedSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Result

    from unitwork._runtime.lanes.trips import Call


class AmbientSession(TurnedSession):
    """The `AsyncSession` of a block or unit of work.

    In a transaction block a plain SELECT, and the INSERT of one entity, take the fused lane, if they
    can: with the same entities, on the same connection. Lives: as long as its block or unit of work.
    """

    @override
    async def execute(self, statement: Any, params: Any = None, **keywords: Any) -> Result[Any]:
        """As `AsyncSession.execute`."""
        call = None if params is not None or any(keywords.values()) else self._call_for(statement)
        if call is not None and call.read.mapper is not None:
            items = await self._read(call)
            if items is not None:
                return ChunkedIteratorResult(
                    call.read.metadata, lambda _size: iter([items]), source_supports_scalars=True
                )
        result: Result[Any] = await super().execute(statement, params, **keywords)
        return result

    @override
    async def scalar(self, statement: Any, params: Any = None, **keywords: Any) -> Any:
        """As `AsyncSession.scalar`."""
        call = None if params is not None or any(keywords.values()) else self._call_for(statement)
        if call is not None:
            items = await self._read(call)
            if items is not None:
                return items[0] if items else None
        return await super().scalar(statement, params, **keywords)

    @override
    async def get(self, entity: Any, ident: Any, **keywords: Any) -> Any:
        """As `AsyncSession.get`."""
        call = None if any(keywords.values()) else self._call_by_key(entity, ident)
        if call is not None:
            items = await self._read(call)
            if items is not None:
                return items[0] if items else None
        return await super().get(entity, ident, **keywords)

    @override
    async def flush(self, objects: Any = None) -> None:
        """As `AsyncSession.flush`."""
        if objects is not None or not await self.in_turn(self.source.express.fused.flush):
            await super().flush(objects)

    def _call_for(self, statement: object) -> Call | None:
        """Prepare a statement for the fused lane; None if it needs the session itself."""
        if not isinstance(statement, Select) or not self._reads_quickly():
            return None
        try:
            return self.source.express.call_of(statement)
        except NeedsSession:
            return None

    def _call_by_key(self, entity: Any, ident: Any) -> Call | None:  # noqa: ANN401  # as SQLAlchemy takes them
        """Prepare to ask for one entity; None if it needs the session itself."""
        if not isinstance(entity, type) or not hasattr(entity, "__mapper__") or not self._reads_quickly():
            return None
        asking = ByKey.of(entity)
        values = asking.values(ident)
        if values is None or None in values.values():
            return None
        try:
            reading = asking.reading("a statement of the session")
            return self.source.express.call(reading, asking.asked(values), asking.identity(values))
        except NeedsSession:
            return None

    def _reads_quickly(self) -> bool:
        """Say whether a transaction block is open: elsewhere SQLAlchemy must know that it is used."""
        frame = self.turns.top.root
        return not (frame.idles or frame.settles or frame.ended)

    async def _read(self, call: Call) -> Sequence[Any] | None:
        if not self.knows_nothing_of(call.identity):
            return None
        return await self.in_turn(partial(self.source.express.fused.read, call))
