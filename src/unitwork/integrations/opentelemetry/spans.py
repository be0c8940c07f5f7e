"""This module makes spans of blocks, statements and hooks."""

from __future__ import annotations

import asyncio
import time
import weakref
from dataclasses import dataclass, field
from inspect import CO_ASYNC_GENERATOR
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, create_key, get_current, set_value
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, get_current_span, set_span_in_context

from unitwork._logic.block_names import kind_of_name, short_name
from unitwork._runtime.blocks.generators import caller_in_generator, iterated_generator
from unitwork.events import (
    BlockEnded,
    BlockEntered,
    BlockRetried,
    HookRan,
    Outcome,
    WorkEnded,
    WorkStarted,
)
from unitwork.integrations.opentelemetry.attributes import (
    ATTEMPT,
    DATABASE,
    ERROR_TYPE,
    OUTCOME,
    Attributes,
    given,
    moment_of,
)
from unitwork.integrations.opentelemetry.block_span import BlockSpan

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext, TracerProvider

    from unitwork._logic.sql.summary import Summary
    from unitwork.events import Event, StatementExecuted

_BLOCK = create_key("unitwork-block")
_NANOSECONDS = 1_000_000_000
_FAILED = {
    Outcome.ROLLED_BACK,
    Outcome.SAVEPOINT_UNDONE,
    Outcome.CONDEMNED,
    Outcome.NO_TRANSACTION,
    Outcome.UNKNOWN,
    Outcome.REFUSED,
}
"""What makes an exception that leaves a block an error of the block."""


@dataclass(eq=False, slots=True)
class _Block:
    """One block that is open. Lives: from its entry to its end."""

    entered: BlockEntered
    span: BlockSpan
    around: Context
    """What was current where it was entered."""
    is_current: bool
    """Not so is the transaction of a unit of work, which begins with some write; nor a block in a generator,
    whose consumer has the same context."""
    inside: Context = field(init=False)


@dataclass(slots=True)
class _Attempt:
    """The last block that has failed in a task. Lives: until the next one begins there."""

    block_id: int
    name: str
    context: SpanContext
    retried: BlockRetried | None = None


class Spans:
    """The spans of the Databases that one observer is told of. Lives: as the observer."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._tracer = trace.get_tracer("unitwork", tracer_provider=provider)
        self._blocks: dict[int, _Block] = {}
        self._work: dict[tuple[str, int], tuple[str, Context]] = {}
        self._failed: weakref.WeakKeyDictionary[asyncio.Task[Any], _Attempt] = weakref.WeakKeyDictionary()

    def take(self, event: Event) -> None:
        """Begin or end a span, or add to one."""
        match event:
            case BlockEntered():
                self._enter(event)
            case BlockEnded():
                self._end(event)
            case BlockRetried():
                self._retry(event)
            case HookRan():
                self._hook(event)
            case WorkStarted():
                self._work[event.database, event.work_id] = (event.name, get_current())
            case WorkEnded():
                self._work.pop((event.database, event.work_id), None)
            case _:
                self._add_moment(event)

    def statement(
        self, event: StatementExecuted, summary: Summary, attributes: Attributes, *, with_text: bool
    ) -> None:
        """Tell of one statement: its span began when it was sent."""
        told: dict[str, str | int | float | bool | None] = {
            DATABASE: event.database,
            "unitwork.lane": event.lane.value if event.lane is not None else None,
            "unitwork.lane.refusal": event.refusal,
            "db.query.text": summary.text if with_text else None,
            "db.operation.batch.size": event.many if event.many > 1 else None,
            "db.response.returned_rows": event.rows if summary.returns_rows else None,
            "unitwork.changed_rows": None if summary.returns_rows else event.rows,
        }
        span = self._tracer.start_span(
            summary.line or str(attributes["db.system.name"]),
            self._context_of(event.block_id),
            SpanKind.CLIENT,
            attributes | given(told),
            start_time=_ago(event.duration_s),
        )
        if event.error is not None:
            span.set_status(Status(StatusCode.ERROR, event.error))
        span.end()

    def end_all(self, database: str) -> None:
        """End the spans of what is open on a Database: its events are not told any more."""
        for number, block in list(self._blocks.items()):
            if block.entered.database == database:
                del self._blocks[number]
                block.span.close().end()
        for key in [key for key in self._work if key[0] == database]:
            del self._work[key]

    # -- blocks --------------------------------------------------------------------------------

    def _enter(self, event: BlockEntered) -> None:
        current, begun = get_current(), self._begin_of_work(event)
        parent = begun if begun is not None else self._context_of(event.parent_id)
        attempt = self._attempt_before(event)
        told: dict[str, str | int | float | bool | None] = {
            DATABASE: event.database,
            "unitwork.block.name": event.name,
            "unitwork.block.propagation": event.propagation,
            "unitwork.block.step": event.step,
            "unitwork.block.read_only": event.read_only,
            ATTEMPT: attempt.retried.attempt if attempt and attempt.retried else None,
        }
        file, colon, line = (event.opener or "").rpartition(":")
        if colon and line.isdecimal():
            told |= {"code.file.path": file, "code.line.number": int(line)}
        span = self._tracer.start_span(
            kind_of_name(event.name),
            parent,
            attributes=given(told),
            links=[Link(attempt.context, {"unitwork.link": "the attempt before"})] if attempt else None,
        )
        moment = moment_of(attempt.retried) if attempt is not None and attempt.retried is not None else None
        if moment is not None:
            span.add_event(*moment)
        shown = BlockSpan(span, get_current_span(parent))
        is_current = begun is None and not _is_in_generator(event)
        block = _Block(event, shown, current if begun is None else parent, is_current)
        block.inside = set_value(_BLOCK, block, set_span_in_context(shown, block.around))
        self._blocks[event.block_id] = block
        if is_current:
            attach(block.inside)

    def _end(self, event: BlockEnded) -> None:
        block = self._blocks.pop(event.block_id, None)
        if block is None:
            return
        span = block.span.close()
        _leave(block)
        failed = event.error is not None and event.outcome in _FAILED
        if event.error is not None:
            self._remember(event, block, span.get_span_context())
            span.set_attribute(ERROR_TYPE, event.error)
        span.set_attribute(OUTCOME, event.outcome.name.lower())
        if event.condemned_by is not None:
            span.set_attribute("unitwork.block.condemned_by", short_name(event.condemned_by))
        if failed:
            span.set_status(Status(StatusCode.ERROR, event.error))
        span.end()

    def _retry(self, event: BlockRetried) -> None:
        self._add_moment(event)
        task = _this_task()
        attempt = self._failed.get(task) if task is not None else None
        if attempt is not None and attempt.block_id == event.block_id:
            attempt.retried = event

    def _remember(self, event: BlockEnded, block: _Block, context: SpanContext) -> None:
        task = _this_task()
        if task is not None:
            self._failed[task] = _Attempt(event.block_id, block.entered.name, context)

    def _attempt_before(self, event: BlockEntered) -> _Attempt | None:
        """Return the attempt that this block is made after, if it is one more."""
        task = _this_task()
        attempt = self._failed.pop(task, None) if task is not None else None
        again = attempt is not None and attempt.retried is not None and attempt.name == event.name
        return attempt if again else None

    def _begin_of_work(self, event: BlockEntered) -> Context | None:
        """Return where a unit of work began, if the block is its transaction."""
        name, begun = self._work.get((event.database, event.work_id or 0), ("", None))
        return begun if name == event.name else None

    def _context_of(self, block_id: int | None) -> Context:
        """Return where the children of a block belong: the context here, if it is inside of the block."""
        current = get_current()
        block = self._blocks.get(block_id) if block_id is not None else None
        if block is None or current.get(_BLOCK) is block:
            return current
        # What the program traces where a block is not current is inside of it, as far as anybody can tell.
        is_bare = block.is_current or get_current_span(current) is get_current_span(block.around)
        return block.inside if is_bare else current

    # -- what stands in the span of a block ------------------------------------------------------

    def _hook(self, event: HookRan) -> None:
        block = self._blocks.get(event.block_id) if event.block_id is not None else None
        told = {DATABASE: event.database, "unitwork.hook.phase": event.phase, ERROR_TYPE: event.error}
        links = None
        if block is not None:
            links = [Link(block.span.get_span_context(), {"unitwork.link": "the transaction"})]
        span = self._tracer.start_span(
            f"{event.phase}: {short_name(event.name)}",
            self._context_of(event.block_id),
            attributes=given(told),
            links=links,
            start_time=_ago(event.duration_s),
        )
        if event.error is not None:
            span.set_status(Status(StatusCode.ERROR, event.error))
        span.end()

    def _add_moment(self, event: Event) -> None:
        moment = moment_of(event)
        if moment is not None:
            block = self._blocks.get(getattr(event, "block_id", None) or 0)
            span = block.span if block is not None else get_current_span()
            span.add_event(*moment)


def _leave(block: _Block) -> None:
    """Make current what was current before a block, unless this is another context, or something is inside.

    Not by token: it would be refused in another context, and take away what was attached meanwhile.
    """
    here = get_current()
    if here is block.inside:
        attach(block.around)
    elif here.get(_BLOCK) is block and get_current_span(here) is block.span:
        around = set_span_in_context(get_current_span(block.around), here)
        attach(set_value(_BLOCK, block.around.get(_BLOCK), around))


def _is_in_generator(event: BlockEntered) -> bool:
    """Say whether `async with` stands in a generator that `async for` asks for items."""
    if not event.name.startswith("the "):
        return False  # a function, which ends before the generator goes on
    frame = caller_in_generator()
    while frame is not None and not frame.f_code.co_flags & CO_ASYNC_GENERATOR:
        ours = str(frame.f_globals.get("__name__")).partition(".")[0] == "unitwork"
        frame = frame.f_back if ours else None
    return iterated_generator(frame) is not None


def _ago(duration_s: float) -> int:
    return time.time_ns() - int(duration_s * _NANOSECONDS)


def _this_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
