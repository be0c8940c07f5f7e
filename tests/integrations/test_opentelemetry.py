"""OpenTelemetry: blocks and statements as spans, by the conventions for databases, and metrics of them."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current, set_value
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from sqlalchemy import URL, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Repository, RetryPolicy, UnexpectedRollbackError
from unitwork.events import ErrorSwallowed, ServerChosen, StatementExecuted
from unitwork.integrations.opentelemetry import OpenTelemetry

SYSTEMS = {"sqlite": "sqlite", "postgresql": "postgresql", "mysql": "mariadb"}
SECRET = "swordfish"


class BusyError(Exception):
    """What a driver says when the same work may succeed another time."""

    sqlite_errorname = "SQLITE_BUSY"


class Telemetry:
    """The real SDK, with exporters that keep all in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.tracer = self.tracers.get_tracer("program")
        self.observer = OpenTelemetry(tracer_provider=self.tracers, meter_provider=self.meters)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """All that have ended, in the order of their beginnings."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def span(self, name: str) -> ReadableSpan:
        """The only one whose name begins so."""
        (found,) = (span for span in self.spans if span.name.startswith(name))
        return found

    def inside(self, name: str) -> list[str]:
        """The names of the children of a span; of those of a block only what it is."""
        parent = context_of(self.span(name)).span_id
        return [
            span.name.partition(" at ")[0]
            for span in self.spans
            if span.parent and span.parent.span_id == parent
        ]

    def points(self, name: str) -> list[Any]:
        """What a metric says now, by its attributes."""
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def count(self, name: str, **attributes: str) -> int:
        """How often something was counted or measured, with these attributes among others."""
        told = {key.replace("__", "."): value for key, value in attributes.items()}.items()
        return sum(
            point.count if hasattr(point, "count") else point.value
            for point in self.points(name)
            if told <= dict(point.attributes).items()
        )


def context_of(span: ReadableSpan) -> trace.SpanContext:
    """What identifies a span."""
    found: trace.SpanContext | None = span.context
    assert found is not None
    return found


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """What a span says."""
    return dict(span.attributes or {})


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """Exporters of this test."""
    telemetry = Telemetry()
    yield telemetry
    telemetry.tracers.shutdown()
    telemetry.meters.shutdown()


@pytest.fixture
def watched(db: Database, telemetry: Telemetry) -> Database:
    """A Database that is observed."""
    db.observe(telemetry.observer)
    return db


async def test_request_is_one_trace(watched: Database, telemetry: Telemetry, database_url: URL) -> None:
    """Blocks, what is traced inside them, statements and hooks are where they belong, without values."""
    db = watched

    async def send_mail() -> None:
        with telemetry.tracer.start_as_current_span("mail"):
            pass

    @db.transactional(propagation="NESTED")
    async def copy() -> None:
        await db.session.execute(
            text("INSERT INTO account (id, name, balance) SELECT id, :name, 0 FROM account"), {"name": SECRET}
        )

    @db.transactional
    async def pay() -> None:
        db.session.add(Account(name=SECRET))
        await db.session.flush()
        db.on_commit(send_mail)
        with telemetry.tracer.start_as_current_span("step"):
            await db.session.execute(text(f"SELECT count(*) FROM account WHERE name = '{SECRET}'"))
            with pytest.raises(IntegrityError):
                await copy()

    with telemetry.tracer.start_as_current_span("request"):
        await pay()
        await Repository[Account](db).find_by(name=SECRET)

    assert telemetry.inside("request")[0] == "pay"
    in_block = [name for name in telemetry.inside("pay") if name != "BEGIN"]
    assert in_block[:3] == ["INSERT account", "step", "COMMIT"]
    assert sorted(in_block[3:]) == ["after commit: send_mail", "mail"]
    assert telemetry.inside("step") == ["SELECT account", "copy"]
    assert telemetry.inside("copy") == ["SAVEPOINT", "INSERT account", "ROLLBACK TO"]
    assert len({context_of(span).trace_id for span in telemetry.spans}) == 1
    assert SECRET not in "".join(span.to_json() for span in telemetry.spans)

    pay_span, copy_span = telemetry.span("pay"), telemetry.span("copy")
    assert attributes_of(pay_span)["unitwork.block.outcome"] == "committed"
    assert attributes_of(copy_span)["unitwork.block.outcome"] == "savepoint_undone"
    assert (pay_span.status.status_code, copy_span.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert attributes_of(copy_span)["error.type"] == "IntegrityError"
    assert [link.context for link in telemetry.span("after commit").links] == [context_of(pay_span)]

    inserted, failed = (span for span in telemetry.spans if span.name == "INSERT account")
    told = attributes_of(inserted)
    assert inserted.kind is SpanKind.CLIENT
    assert told["db.system.name"] == SYSTEMS[db.engine.dialect.name]
    assert told["db.namespace"] == (database_url.database or "").rpartition("/")[2]
    assert told["db.operation.name"] == "INSERT"
    assert told["db.collection.name"] == "account"
    assert told["db.query.text"].startswith("INSERT INTO account (")
    assert (told.get("server.address"), told.get("server.port")) == (database_url.host, database_url.port)
    assert failed.status.status_code is StatusCode.ERROR
    assert attributes_of(failed)["error.type"]
    assert attributes_of(failed)["db.response.status_code"]
    counted = next(span for span in telemetry.spans if span.name == "SELECT account")
    assert attributes_of(counted)["db.query.text"] == "SELECT count(*) FROM account WHERE name = ?"

    operations = "db.client.operation.duration"
    assert telemetry.count(operations, db__operation__name="INSERT", db__collection__name="account") == 2
    assert telemetry.count("unitwork.block.duration", unitwork__block__outcome="savepoint_undone") == 1
    assert telemetry.count("unitwork.hook.duration") == 1


@pytest.mark.only("sqlite", reason="the same events on each database")
async def test_attempts_and_what_condemns(watched: Database, telemetry: Telemetry) -> None:
    """Each attempt links to the one before, and an unexpected rollback says what has made it necessary."""
    db, attempts = watched, list[int]()

    @db.transactional(retry=RetryPolicy(attempts=3, first_delay_s=0))
    async def unlucky() -> None:
        attempts.append(len(attempts))
        await db.session.execute(select(Account))
        if len(attempts) < 3:
            raise OperationalError("SELECT", {}, BusyError())

    @db.transactional
    async def fails() -> None:
        raise ValueError(SECRET)

    @db.transactional
    async def swallows() -> None:
        with suppress(ValueError):
            await fails()

    with telemetry.tracer.start_as_current_span("request"):
        await unlucky()
        with pytest.raises(UnexpectedRollbackError):
            await swallows()
        db.unobserve(telemetry.observer)
        await swallows_unseen(db)

    first, second, third = (span for span in telemetry.spans if span.name == "unlucky")
    assert [[link.context for link in span.links] for span in (first, second, third)] == [
        [],
        [context_of(first)],
        [context_of(second)],
    ]
    assert [attributes_of(span).get("unitwork.block.attempt") for span in (first, second, third)] == [
        None,
        2,
        3,
    ]
    assert "unitwork.block.retried" in [event.name for event in second.events]
    retries = [event for event in telemetry.span("request").events if event.name == "unitwork.block.retried"]
    assert len(retries) == 2
    outer, inner = telemetry.span("swallows"), telemetry.span("fails")
    assert attributes_of(outer)["unitwork.block.condemned_by"] == "fails"
    assert [attributes_of(span)["unitwork.block.outcome"] for span in (outer, inner)] == [
        "rolled_back",
        "condemned",
    ]
    assert "unitwork.block.condemned" in [event.name for event in outer.events]
    assert SECRET not in "".join(span.to_json() for span in telemetry.spans)

    assert telemetry.count("unitwork.block.retries", error__type="OperationalError") == 2
    assert telemetry.count("unitwork.block.unexpected_rollbacks") == 1
    assert telemetry.points("db.client.connection.count") == []


async def swallows_unseen(db: Database) -> None:
    """Do what nobody observes any more."""
    async with db.transaction():
        await db.session.execute(select(Account))


@pytest.mark.only("sqlite", reason="contexts are not of the database")
async def test_contexts_are_left_as_they_were(
    watched: Database, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    """In tasks, generators and beside what others attach: no span outlives its block; nothing is logged."""
    db, tracer = watched, telemetry.tracer
    gate = asyncio.Event()

    async def outlives() -> None:
        await gate.wait()
        with tracer.start_as_current_span("late"):
            pass

    async def rows() -> AsyncIterator[int]:
        async with db.transaction():
            yield 1
            yield 2

    async def opened() -> AsyncGenerator[None]:
        async with db.transaction():
            yield

    with tracer.start_as_current_span("request") as request:
        before = get_current()
        async with db.transaction():
            late = asyncio.create_task(outlives())
            token = attach(set_value("kept", "yes"))
            # Whoever looks for a span of the SDK finds one.
            assert isinstance(get_current_span(), ReadableSpan)
            get_current_span().set_attribute("mine", 1)
        assert get_current_span() is request
        assert get_current().get("kept") == "yes"
        detach(token)
        gate.set()
        await late

        async for _ in rows():
            assert get_current_span().get_span_context() == request.get_span_context()
            break
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0)
        with tracer.start_as_current_span("after break"):
            pass
        driven = opened()
        await anext(driven)
        inside_of_driven = get_current_span().get_span_context()
        await asyncio.create_task(driven.aclose())  # as fixtures and dependencies may be closed
        assert inside_of_driven != request.get_span_context() == get_current_span().get_span_context()
        async with db.transaction():
            pass

        await asyncio.gather(*(swallows_unseen(db) for _ in range(3)))
        assert get_current_span().get_span_context() == request.get_span_context()
        attach(before)

    inside = telemetry.inside("request")
    assert inside.count("block") == 7
    assert {"late", "after break"} <= set(inside)
    marked = [span for span in telemetry.spans if attributes_of(span).get("mine")]
    assert [span.name.partition(" at ")[0] for span in marked] == ["block"]
    assert caplog.records == []


@pytest.mark.only("sqlite", reason="contexts are not of the database")
async def test_unit_of_work_is_where_it_began(watched: Database, telemetry: Telemetry) -> None:
    """Its transaction begins with some write, and is beside what the program traces there."""
    db, tracer, write = watched, telemetry.tracer, text("UPDATE account SET balance = 0")

    with tracer.start_as_current_span("request"):
        async with db.unit_of_work():
            with tracer.start_as_current_span("step") as step:
                await db.session.execute(write)
                assert get_current_span() is step
            await db.session.execute(write)

    assert telemetry.inside("request") == ["step", "unit of work"]
    assert telemetry.inside("unit of work")[-2:] == ["UPDATE account", "COMMIT"]
    assert "UPDATE account" in telemetry.inside("step")
    assert telemetry.count("unitwork.block.duration", unitwork__block__outcome="committed") >= 1


@pytest.mark.only("sqlite", reason="nothing of it is sent")
async def test_what_is_rare_is_told_too(telemetry: Telemetry) -> None:
    """Servers of reads, and failures that are not raised; of a Database that was never handed over."""
    observer = telemetry.observer
    with telemetry.tracer.start_as_current_span("request"):
        observer.notice(ServerChosen(None, "shop", "db2:5433", "replica", None, 0.0))
        observer.notice(ServerChosen(None, "shop", "db1", "primary", "it is 40 s behind", 0.0))
        observer.notice(ErrorSwallowed("shop", "the end of a connection", "OSError"))
        observer.notice(StatementExecuted(7, "shop", 'SELECT "a"', 0.5, None, server="[::1]:5433"))

    assert [dict(event.attributes or {}) for event in telemetry.span("request").events] == [
        {"unitwork.server.role": "replica", "server.address": "db2", "server.port": 5433},
        {
            "unitwork.server.role": "primary",
            "unitwork.server.reason": "it is 40 s behind",
            "server.address": "db1",
        },
        {"unitwork.error.place": "the end of a connection", "error.type": "OSError"},
    ]
    statement = attributes_of(telemetry.span("SELECT"))
    assert (statement["server.address"], statement["server.port"]) == ("[::1]", 5433)
    assert (statement["db.system.name"], statement.get("db.query.text")) == ("other_sql", None)
    assert telemetry.count("unitwork.server.choices", unitwork__server__role="replica") == 1
    assert telemetry.count("unitwork.errors.swallowed", error__type="OSError") == 1


class Broken(SpanExporter, SpanProcessor):
    """An exporter that is down, and a processor that fails with it."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Fail."""
        raise ConnectionError("the collector is down")

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Fail while a span begins."""
        raise RuntimeError("broken at the start")

    def on_end(self, span: ReadableSpan) -> None:
        """Fail while a span ends."""
        raise RuntimeError("broken at the end")

    def shutdown(self) -> None:
        """Do nothing."""


@pytest.mark.only("sqlite", reason="nothing of it is sent")
@pytest.mark.parametrize("how", ["exporter", "processor"])
async def test_telemetry_that_fails_harms_nobody(db: Database, observer: Observer, how: str) -> None:
    """All is stored, one failure is told, and the context is as before."""
    told = list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    tracers, reader = TracerProvider(), InMemoryMetricReader()
    broken = Broken()
    tracers.add_span_processor(SimpleSpanProcessor(broken) if how == "exporter" else broken)
    meters = MeterProvider([reader])
    db.observe(OpenTelemetry(tracer_provider=tracers, meter_provider=meters))
    before = get_current()

    for name in ("ann", "bob"):
        async with db.transaction() as session:
            session.add(Account(name=name))
            async with db.transaction(propagation="NESTED"):
                session.add(Audit(note=name))

    assert (await observer.names(Account), await observer.notes(Audit)) == (["ann", "bob"], ["ann", "bob"])
    assert get_current() == before
    assert len(told) == (how == "processor")
    meters.shutdown()


async def test_pool_is_told_of(database_url: URL, telemetry: Telemetry) -> None:
    """How many connections there are and may be, who waits, for how long, and in vain."""
    async with Database(
        database_url,
        name="orders",
        observers=[telemetry.observer],
        pool_size=1,
        max_overflow=0,
        pool_timeout=0.05,
    ) as db:
        pool = "db.client.connection"

        async with db.engine.connect():
            waits = asyncio.ensure_future(db.engine.connect().start())
            while not db.snapshot().servers[0].pools[0].waiting:  # noqa: ASYNC110  # a pool sets no event
                await asyncio.sleep(0)
            assert telemetry.count(f"{pool}.pending_requests") == 1
            assert telemetry.count(f"{pool}.count", db__client__connection__state="used") == 1
            assert telemetry.count(f"{pool}.max", db__client__connection__pool__name="orders") == 1
            with pytest.raises(PoolTimeoutError):
                await waits

        assert telemetry.count(f"{pool}.count", db__client__connection__state="idle") == 1
        assert telemetry.count(f"{pool}.timeouts") == 1
        assert telemetry.count(f"{pool}.create_time") == 1
        assert telemetry.count(f"{pool}.wait_time") == telemetry.count(f"{pool}.use_time") == 1
    del db
    gc.collect()
    assert telemetry.points(f"{pool}.count") == []


@pytest.mark.only("sqlite", reason="nothing of it is sent")
async def test_statements_can_be_left_out(db: Database, telemetry: Telemetry) -> None:
    """Without spans of statements they are still measured; without text they are still spans."""
    places = partial(OpenTelemetry, tracer_provider=telemetry.tracers, meter_provider=telemetry.meters)
    without_text = places(query_text=False)
    db.observe(without_text)
    await swallows_unseen(db)
    db.unobserve(without_text)
    spans = telemetry.spans
    telemetry.exporter.clear()
    db.observe(places(statements=False))
    await swallows_unseen(db)

    assert "SELECT account" in [span.name for span in spans]
    assert not any("db.query.text" in attributes_of(span) for span in spans)
    assert [span.name.partition(" at ")[0] for span in telemetry.spans] == ["block"]
    assert telemetry.count("db.client.operation.duration", db__collection__name="account") == 2
