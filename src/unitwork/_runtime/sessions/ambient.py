"""This module holds the session of blocks and units: SQLAlchemy's, whose plain statements are quick."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select
from sqlalchemy.engine import ChunkedIteratorResult
from typing_extensions import override

from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.lanes.calls import KeyLookup
from unitwork._runtime.sessions.session import TurnedSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Result

    from unitwork._runtime.lanes.reads import ReadCall


class AmbientSession(TurnedSession):
    """The `AsyncSession` of a block or unit of work.

    In a transaction block a plain SELECT, and the INSERT of one entity, take the fused lane, if they
    can: with the same entities, on the same connection. Lives: as long as its block or unit of work.
    """

    @override
    async def execute(self, statement: Any, params: Any = None, **keywords: Any) -> Result[Any]:
        """As `AsyncSession.execute`."""
        read = None if params is not None or any(keywords.values()) else self._read_of(statement)
        if read is not None and read.read.result is not None:
            items = await self._fused(read)
            if items is not None:
                return ChunkedIteratorResult(
                    read.read.result, lambda _size: iter([items]), source_supports_scalars=True
                )
        result: Result[Any] = await super().execute(statement, params, **keywords)
        return result

    @override
    async def scalar(self, statement: Any, params: Any = None, **keywords: Any) -> Any:
        """As `AsyncSession.scalar`."""
        read = None if params is not None or any(keywords.values()) else self._read_of(statement)
        if read is not None:
            items = await self._fused(read)
            if items is not None:
                return items[0] if items else None
        return await super().scalar(statement, params, **keywords)

    @override
    async def get(self, entity: Any, ident: Any, **keywords: Any) -> Any:
        """As `AsyncSession.get`."""
        read = None if any(keywords.values()) else self._read_by_key(entity, ident)
        if read is not None:
            items = await self._fused(read)
            if items is not None:
                return items[0] if items else None
        return await super().get(entity, ident, **keywords)

    @override
    async def flush(self, objects: Any = None) -> None:
        """As `AsyncSession.flush`."""
        if objects is not None or await self.in_turn(self.source.lanes.fused.flush) is not None:
            await super().flush(objects)

    def _read_of(self, statement: object) -> ReadCall | None:
        """Prepare a statement for the fused lane; None if it needs the session itself."""
        if not isinstance(statement, Select) or not self._reads_quickly():
            return None
        read = self.source.lanes.statements.read_of(statement)
        return None if isinstance(read, LaneRefusal) else read

    def _read_by_key(self, entity: Any, ident: Any) -> ReadCall | None:  # noqa: ANN401  # as SQLAlchemy takes them
        """Prepare to ask for one entity; None if it needs the session itself."""
        if not isinstance(entity, type) or not hasattr(entity, "__mapper__") or not self._reads_quickly():
            return None
        lookup = KeyLookup.of(entity)
        values = lookup.values(ident)
        if values is None or None in values.values():
            return None
        reader, identity = lookup.reader("a statement of the session"), lookup.identity(values)
        read = self.source.lanes.statements.read(reader, lookup.call(values), identity)
        return None if isinstance(read, LaneRefusal) else read

    def _reads_quickly(self) -> bool:
        """Say whether a transaction block is open: elsewhere SQLAlchemy must know that it is used."""
        frame = self.turns.top.root
        return not (frame.idles or frame.settles or frame.ended)

    async def _fused(self, read: ReadCall) -> Sequence[Any] | None:
        """Return what becomes of the rows of a read; None if the session itself must read them."""
        if not self.knows_nothing_of(read.identity):
            return None
        items = await self.in_turn(partial(self.source.lanes.fused.read, read))
        return None if isinstance(items, LaneRefusal) else items
