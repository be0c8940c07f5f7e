"""This module opens a unit of work around each call that a grpc.aio server answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import iscoroutinefunction
from typing import Any

from typing_extensions import override

from unitwork.database import Database
from unitwork.errors import MissingExtraError
from unitwork.integrations.units import Units, several

try:
    import grpc
    from grpc.aio import ServerInterceptor, ServicerContext
except ModuleNotFoundError as missing:
    raise MissingExtraError("unitwork.integrations.grpc", "grpcio", "grpc") from missing

__all__ = ["UnitOfWorkInterceptor"]

# None and 0 are what versions of grpc say where no code was set.
_FINE = (None, 0, grpc.StatusCode.OK)


class UnitOfWorkInterceptor(ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Gives each call a unit of work: committed before its response is sent.

    The status decides: `context.abort`, `context.set_code` with any code but OK, and every
    exception roll back. A COMMIT that fails is the error of the call. A method that streams its
    responses gets nothing: it opens a block for what it sends. Lives: as long as the server.

    Args:
        database: One Database, or several: each gets a unit of its own.
        atomic: Each unit is one transaction, which begins with the first write, lock or block; else each
            block, and each write of a repository, commits by itself.

    Database:
        Nothing for a call that never touches it.

    Examples:
        >>> import grpc
        >>> server = grpc.aio.server(interceptors=[UnitOfWorkInterceptor(db)])
    """

    def __init__(self, database: Database | Sequence[Database], *, atomic: bool = True) -> None:
        self._databases = several(database)
        self._atomic = atomic

    @override
    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the method of a call, in a unit of work."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        behavior, build = handler.unary_unary, grpc.unary_unary_rpc_method_handler
        if handler.request_streaming:
            behavior, build = handler.stream_unary, grpc.stream_unary_rpc_method_handler
        if not iscoroutinefunction(behavior):
            # It streams its responses, or grpc runs it in a thread, where no session can be used.
            return handler
        return build(
            self._in_unit(behavior, f"the call {handler_call_details.method}"),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _in_unit(self, behavior: Callable[[Any, Any], Awaitable[Any]], name: str) -> Callable[..., Any]:
        async def in_unit(request: object, context: ServicerContext[Any, Any]) -> object:
            async with Units(self._databases, name, atomic=self._atomic) as units:
                response = await behavior(request, context)
                if context.code() not in _FINE:
                    await units.end(commit=False)
            return response

        return in_unit
