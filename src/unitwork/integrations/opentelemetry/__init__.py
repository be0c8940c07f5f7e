"""This package tells OpenTelemetry of transactions, statements and connections, as spans and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitwork.errors import MissingExtraError
from unitwork.events import StatementExecuted

try:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider
except ModuleNotFoundError as missing:
    raise MissingExtraError("unitwork.integrations.opentelemetry", "opentelemetry-api", "otel") from missing

from unitwork.integrations.observed import ObservedDatabases
from unitwork.integrations.opentelemetry.attributes import attributes_of
from unitwork.integrations.opentelemetry.metrics import Metrics
from unitwork.integrations.opentelemetry.spans import Spans

if TYPE_CHECKING:
    from unitwork.database import Database
    from unitwork.events import Event

__all__ = ["OpenTelemetry"]


class OpenTelemetry:
    """An observer that tells OpenTelemetry what happens, as spans and as metrics.

    Each block is a span, current while the block runs: what is traced inside it, statements included, is
    below it. Names and attributes are those of the stable semantic conventions for databases; what these
    do not name begins with `unitwork.`. Needs `pip install 'unitwork[otel]'` and an SDK that the program
    has set up; without one nothing is recorded. Lives: as long as you observe.

    Args:
        tracer_provider: Where spans go; by default the global one.
        meter_provider: Where metrics go; by default the global one.
        statements: Each statement is a span, too.
        query_text: The span of a statement has its text, with `?` in place of each value.

    Examples:
        >>> db.observe(OpenTelemetry())
        >>> async with db.transaction():
        ...     db.session.add(User(email="ann@example.com"))
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        statements: bool = True,
        query_text: bool = True,
    ) -> None:
        self._databases = ObservedDatabases()
        self._spans = Spans(tracer_provider)
        self._metrics = Metrics(meter_provider)
        self._statements = statements
        self._query_text = query_text

    def begin_observing(self, database: Database, /) -> None:
        """Take note of a Database; called by `db.observe`."""
        self._databases.add(database)
        self._metrics.begin(database)

    def end_observing(self, database: Database, /) -> None:
        """Forget it; called by `db.unobserve`."""
        self._databases.remove(database)
        self._metrics.end(database)
        self._spans.end_all(database.name)

    def notice(self, event: Event, /) -> None:
        """Take one event; called by the Databases that are observed."""
        if isinstance(event, StatementExecuted):
            self._statement(event)
            return
        try:
            self._spans.take(event)
        finally:
            self._metrics.take(event)

    def _statement(self, event: StatementExecuted) -> None:
        summary = self._databases.summary_of(event.database, event.sql)
        attributes = attributes_of(event, summary, self._databases.facts_of(event.database))
        try:
            if self._statements:
                self._spans.statement(event, summary, attributes, with_text=self._query_text)
        finally:
            self._metrics.statement(event, attributes)
