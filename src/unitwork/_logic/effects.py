"""This module decides what a statement does beyond reading, in one walk through its parts."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import TextClause, UpdateBase
from sqlalchemy.sql import visitors
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import SelectBase

from unitwork._logic.functions import calls_what_may_write, calls_what_replicas_lack
from unitwork._logic.writes import is_write, text_locks, texts_of


class Effects(NamedTuple):
    """What a statement does to data and locks, and where it can do so."""

    writes: bool = False
    locks: bool = False
    """It locks what it reads, as long as its transaction lasts."""
    may_call: bool = False
    """It calls a function that may write or lock: one that is not known."""
    replicas_lack: bool = False
    """It calls a function that no replica has, or that may write."""

    @property
    def need_primary(self) -> bool:
        """Whether no replica may be asked."""
        return self.writes or self.locks or self.replicas_lack


NOTHING = Effects()
WRITES = Effects(writes=True)


def effects_of(statement: object, dialect: str) -> Effects:
    """Say what a statement does; text is judged by its words."""
    inner: object = getattr(statement, "element", statement)
    if isinstance(inner, UpdateBase):
        return WRITES
    if isinstance(inner, SelectBase):
        return _effects_of_select(inner, dialect)
    if is_write(statement, dialect):
        return WRITES
    texts = texts_of(statement)
    if not texts:
        return NOTHING
    return Effects(
        locks=any(text_locks(text, dialect) for text in texts),
        may_call=any(calls_what_may_write(text, dialect) for text in texts),
        replicas_lack=any(calls_what_replicas_lack(text, dialect) for text in texts),
    )


def _effects_of_select(statement: SelectBase, dialect: str) -> Effects:
    writes = locks = may_call = replicas_lack = False
    for part in visitors.iterate(statement):
        writes = writes or bool(getattr(part, "is_dml", False))
        locks = locks or getattr(part, "_for_update_arg", None) is not None
        if isinstance(part, (FunctionElement, TextClause)):
            may_call = may_call or calls_what_may_write(part, dialect)
            replicas_lack = replicas_lack or calls_what_replicas_lack(part, dialect)
    return Effects(writes, locks, may_call, replicas_lack)
