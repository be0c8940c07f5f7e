"""This module holds the span of a block, as it is found in the context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Span
from typing_extensions import override

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext, Status, StatusCode
    from opentelemetry.util.types import Attributes, AttributeValue


class BlockSpan(Span):
    """The span of a block while that is open; once it has ended, the span around it.

    A context may outlive the block: that of a task which was started inside, or of code whose generator was
    finalised elsewhere, where no one can take the span out of it again. What is traced there is then put
    below what is open still. Lives: as long as a context has it.

    Args:
        span: That of the tracer.
        around: The current span where the block was entered.
    """

    def __init__(self, span: Span, around: Span) -> None:
        self.has_ended = False
        self._span = span
        # What has ended is passed by, so that no chain of them can grow.
        while isinstance(around, BlockSpan) and around.has_ended:
            around = around.shown
        self._around = around

    @property
    def shown(self) -> Span:
        """The span that stands for it now."""
        return self._around if self.has_ended else self._span

    def close(self) -> Span:
        """Let the span around stand for it from now on; return its own, to be ended."""
        self.has_ended = True
        return self._span

    @property  # type: ignore[misc]  # as proxies do: whoever looks for a span of the SDK finds one
    def __class__(self) -> Any:  # noqa: ANN401  # pyright: ignore[reportIncompatibleMethodOverride]  # of whichever SDK
        return type(self.shown)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # what the span of an SDK has beyond the interface
        return getattr(self.shown, name)

    @override
    def end(self, end_time: int | None = None) -> None:
        """Do nothing: the block ends it."""

    @override
    def get_span_context(self) -> SpanContext:
        return self.shown.get_span_context()

    @override
    def set_attributes(self, attributes: Any) -> None:
        self.shown.set_attributes(attributes)

    @override
    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self.shown.set_attribute(key, value)

    @override
    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        self.shown.add_event(name, attributes, timestamp)

    @override
    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        self.shown.add_link(context, attributes)

    @override
    def update_name(self, name: str) -> None:
        self.shown.update_name(name)

    @override
    def is_recording(self) -> bool:
        return self.shown.is_recording()

    @override
    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self.shown.set_status(status, description)

    @override
    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        self.shown.record_exception(exception, attributes, timestamp, escaped)
