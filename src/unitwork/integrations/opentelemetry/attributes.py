"""This module names what spans and metrics say, by the semantic conventions of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from unitwork._logic.block_names import short_name
from unitwork.events import (
    BlockCondemned,
    BlockRetried,
    ConnectionTaken,
    ErrorSwallowed,
    PoolTimedOut,
    ServerChosen,
    TurnAwaited,
)
from unitwork.integrations.observed import host_and_port

if TYPE_CHECKING:
    from unitwork._logic.sql.summary import Summary
    from unitwork.events import Event, StatementExecuted
    from unitwork.integrations.observed import Facts

Attributes: TypeAlias = dict[str, str | int | float | bool]

DATABASE = "unitwork.database"
ERROR_TYPE = "error.type"
OUTCOME = "unitwork.block.outcome"
ATTEMPT = "unitwork.block.attempt"
PLACE = "unitwork.error.place"
ROLE = "unitwork.server.role"
WAIT = "unitwork.wait_s"
_WORTH_TELLING_S = 0.001


def attributes_of(event: StatementExecuted, summary: Summary, facts: Facts | None) -> Attributes:
    """Return what the span of a statement and its metric have in common: names, of which there are few."""
    host, port = (facts.address, facts.port) if facts is not None else (None, None)
    if event.server is not None:
        host, port = host_and_port(event.server)
    return given(
        {
            "db.system.name": facts.system if facts is not None else "other_sql",
            "db.namespace": facts.namespace if facts is not None else None,
            "db.operation.name": summary.operation or None,
            "db.collection.name": summary.collection,
            "db.stored_procedure.name": summary.procedure,
            "db.query.summary": summary.line or None,
            "server.address": host,
            "server.port": port,
            "db.response.status_code": event.code,
            ERROR_TYPE: event.error,
        }
    )


def of_server(server: str | None) -> Attributes:
    """Return what names a server; nothing for SQLite."""
    if server is None:
        return {}
    host, port = host_and_port(server)
    return given({"server.address": host, "server.port": port})


def given(attributes: Mapping[str, str | int | float | bool | None]) -> Attributes:
    """Return those that are known."""
    return {name: value for name, value in attributes.items() if value is not None}


def moment_of(event: Event) -> tuple[str, Attributes] | None:
    """Return how an event that takes no time of its own shows in a span: its name, and what it says."""
    told: Mapping[str, str | int | float | bool | None]
    match event:
        case BlockCondemned():
            name = "unitwork.block.condemned"
            told = {"unitwork.condemned_by": short_name(event.by), ERROR_TYPE: event.error}
        case BlockRetried():
            name = "unitwork.block.retried"
            told = {ATTEMPT: event.attempt, "unitwork.delay_s": event.delay_s, ERROR_TYPE: event.error}
        case ServerChosen():
            name = "unitwork.server.chosen"
            told = {ROLE: event.role, "unitwork.server.reason": event.reason, **of_server(event.server)}
        case TurnAwaited() if event.wait_s >= _WORTH_TELLING_S:
            name = "unitwork.turn.awaited"
            told = {WAIT: event.wait_s, "unitwork.holder": event.holder}
        case ConnectionTaken() if event.wait_s >= _WORTH_TELLING_S:
            name = "unitwork.connection.taken"
            told = {WAIT: event.wait_s, "unitwork.connection.opened": event.opened}
        case PoolTimedOut():
            name = "unitwork.pool.timed_out"
            told = {WAIT: event.wait_s}
        case ErrorSwallowed():
            name = "unitwork.error.swallowed"
            told = {PLACE: event.place, ERROR_TYPE: event.error}
        case _:
            return None
    return name, given(told)
